"""How likely the tokens of an answer were, in the shapes that clients read. Pure."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from runtime.engine.values.events import TokenProbs
from runtime.server.answering.streaming import Lazy

_LOWEST = -3.4028234663852886e38  # the least 32-bit float stands for minus infinity, which JSON doesn't have


def tokens_json(probs: Iterable[TokenProbs], num_top: int, *, is_after_sampling: bool = False) -> list[Lazy]:
    """Return a list with an object for each token, as llama-server writes it; OpenAI's chat needs all but `id`."""
    return [Lazy(partial(_token_json, each, num_top, is_after_sampling)) for each in probs]


def _token_json(probs: TokenProbs, num_top: int, is_after_sampling: bool) -> dict[str, Any]:
    top_name = "top_probs" if is_after_sampling else "top_logprobs"
    return {
        **_likely(probs.token, probs.piece, probs.logprob, is_after_sampling),
        top_name: [_likely(*likely, is_after_sampling) for likely in probs.top[:num_top]],
    }


def _likely(token: int, piece: bytes, logprob: float, is_after_sampling: bool) -> dict[str, Any]:
    value = {"prob": math.exp(logprob)} if is_after_sampling else {"logprob": _finite(logprob)}
    return {"id": token, "token": _text(piece), "bytes": list(piece), **value}


def parallel_json(
    probs: Iterable[TokenProbs], num_top: int, offset: int, *, first_piece: bytes | None = None
) -> dict[str, Any]:
    """Return parallel lists, as OpenAI's text completions have them; `offset` is where their text begins.

    `first_piece` is the piece of a token before them that nothing foretold: it has nulls.
    """
    tokens: list[str] = []
    logprobs: list[float | None] = []
    tops: list[Lazy | None] = []
    offsets: list[int] = []
    if first_piece is not None:
        tokens, logprobs, tops, offsets = [_text(first_piece)], [None], [None], [offset]
        offset += len(tokens[0])
    for each in probs:
        tokens.append(_text(each.piece))
        logprobs.append(_finite(each.logprob))
        tops.append(Lazy(partial(_top_json, each, num_top)))
        offsets.append(offset)
        offset += len(tokens[-1])
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def _top_json(probs: TokenProbs, num_top: int) -> dict[str, float]:
    return {_text(piece): _finite(logprob) for _token, piece, logprob in probs.top[:num_top]}


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, _LOWEST)
