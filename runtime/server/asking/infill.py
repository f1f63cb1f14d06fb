"""A gap in a text to the tokens that ask an engine's model to fill it, for every client that asks for it."""

from runtime.chat.infill import Gap, Snippet, fill_prompt
from runtime.chat.prompt_text import prompt_tokens
from runtime.engine.interface import AnyEngine
from runtime.server.refusals import NotOffered


def fill_tokens(
    engine: AnyEngine,
    prefix: str,
    suffix: str,
    *,
    snippets: tuple[Snippet, ...] = (),
    beginning: str = "",
    max_tokens: int | None,
) -> tuple[int, ...]:
    """Return the prompt, with room for an answer of `max_tokens`. Blocks; call from a thread.

    Raises PromptTooLong when the beginning alone is, NotOffered when the model wasn't trained for it.
    """
    marks, info = engine.vocabulary.fill_tokens, engine.info
    if marks is None:
        raise NotOffered("this model wasn't trained to fill gaps: it has no tokens for prefix, suffix and middle")
    special = engine.vocabulary.tokenize("", add_special=True, parse_special=False) if info.add_bos else []
    middle = prompt_tokens(engine, beginning, is_first=False)
    return fill_prompt(
        Gap(prefix, suffix, snippets, middle),
        marks,
        lambda text: engine.vocabulary.tokenize(text, add_special=False, parse_special=False),
        bos=special[0] if special else None,
        num_tokens=info.n_ctx - 1 - min(max_tokens or info.n_ctx, info.n_ctx // 4),
    )
