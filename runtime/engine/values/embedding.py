"""Texts that are to become vectors, and what a vector is scaled to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.errors import RequestError, TextTooLong

Vectors = list[list[float]]


@dataclass(eq=False, slots=True)
class EmbeddingJob:
    """Texts as token ids, and what they became: for each text one vector, or without pooling one for each token.

    `param` is the request's field that holds the texts, named in errors. `lora` are the scales of the adapters that all
    of them are computed with.
    """

    texts: Sequence[Sequence[int]]
    sink: Callable[["EmbeddingJob | Exception"], None]
    param: str = "input"
    lora: tuple[float, ...] = ()
    results: list[Vectors] = field(default_factory=list)
    is_cancelled: bool = False

    def check(self, n_vocab: int, max_text_tokens: int) -> None:
        """Raise RequestError or TextTooLong for a text that can't be computed."""
        for index, text in enumerate(self.texts):
            if not text:
                raise RequestError(f"{self.param}[{index}] is empty; give it at least one token", self.param)
            if len(text) > max_text_tokens:
                raise TextTooLong(self.param, index, len(text), max_text_tokens)
            if min(text) < 0 or max(text) >= n_vocab:
                raise RequestError(f"{self.param}[{index}] has token ids outside the vocabulary", self.param)


def normalized(vector: list[float], kind: int) -> list[float]:
    """Return a vector divided by its norm, as llama.cpp numbers them (`--embd-normalize`).

    Negative is none, 0 the largest absolute value (scaled to 32760), 1 taxicab, 2 Euclidean, others that p-norm.
    """
    largest = max(map(abs, vector), default=0.0)
    if kind < 0 or largest == 0:
        return vector
    if kind == 0:
        norm = largest / 32760.0
    else:  # of numbers up to 1, so that no power overflows
        norm = largest * math.fsum((abs(x) / largest) ** kind for x in vector) ** (1.0 / kind)
    return [x / norm for x in vector]
