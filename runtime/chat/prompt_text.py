"""A prompt's text to its tokens, for whoever asks an engine to go on with one."""

from runtime.engine.interface import AnyEngine
from runtime.engine.values.request import MAX_TEXT_TOKENS
from runtime.errors import PromptTooLong, TooManyTokens


def prompt_tokens(engine: AnyEngine, text: str, *, is_first: bool, is_counted: bool = False) -> tuple[int, ...]:
    """Return the tokens of a text that begins a prompt, or goes on with one. Blocks; call from a thread if it is long.

    Raises PromptTooLong for a text that is far longer than the context, before all of it is tokenized; not if it
    `is_counted` only.
    """
    n_ctx = engine.info.n_ctx
    most = MAX_TEXT_TOKENS if is_counted else n_ctx
    try:
        return tuple(engine.vocabulary.tokenize(text, add_special=is_first, parse_special=True, max_tokens=most))
    except TooManyTokens as refusal:
        if is_counted:
            raise
        raise PromptTooLong(refusal.num_tokens, n_ctx, is_counted=False) from None
