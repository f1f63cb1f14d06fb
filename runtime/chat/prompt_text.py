"""A prompt's text to its tokens, for whoever asks an engine to go on with one."""

from collections.abc import Sequence
from itertools import chain

from runtime.engine.interface import AnyEngine
from runtime.engine.values.request import MAX_TEXT_TOKENS, TextPart
from runtime.errors import PromptTooLong, TooManyTokens


def prompt_tokens(engine: AnyEngine, text: str, *, is_first: bool) -> tuple[int, ...]:
    """Return the tokens of a text that names control tokens wherever it means them; as `tokens_of`."""
    return tokens_of(engine, [TextPart(text)], is_first=is_first)


def tokens_of(
    engine: AnyEngine, parts: Sequence[TextPart], *, is_first: bool, is_counted: bool = False
) -> tuple[int, ...]:
    """Return the tokens of parts as those of one text that begins a prompt, or goes on with one.

    Raises PromptTooLong for a text that is far longer than the context, before all of it is tokenized; TooManyTokens if
    it `is_counted` only, and longer than any text may be. Blocks; call from a thread if it is long.
    """
    n_ctx = engine.info.n_ctx
    most = MAX_TEXT_TOKENS if is_counted else n_ctx
    try:
        return _tokens_of(engine, parts, add_special=is_first, max_tokens=most)
    except TooManyTokens as refusal:
        if is_counted:
            raise
        raise PromptTooLong(refusal.num_tokens, n_ctx, is_counted=False) from None


def _tokens_of(engine: AnyEngine, parts: Sequence[TextPart], *, add_special: bool, max_tokens: int) -> tuple[int, ...]:
    def tokenize(part: TextPart, *, add_special: bool) -> list[int]:
        return engine.vocabulary.tokenize(
            part.text, add_special=add_special, parse_special=part.parses_special, max_tokens=max_tokens
        )

    if len(parts) == 1:
        return tuple(tokenize(parts[0], add_special=add_special))
    around = tokenize(TextPart(""), add_special=add_special)
    num_before = int(add_special and engine.info.add_bos)
    inner = (tokenize(part, add_special=False) for part in parts)
    return (*around[:num_before], *chain.from_iterable(inner), *around[num_before:])
