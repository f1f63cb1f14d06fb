"""Pictures and sounds in a prompt, as the scheduler sees them.

A projector makes a few hundred vectors of a picture, which the model reads as if they were those of tokens. So a
picture takes as many places among a prompt's tokens, and there it has stand-ins: negative numbers, which no token has,
made of a hash of its bytes and counting down. Two prompts with the same picture at the same place have the same
stand-ins, and what is known about common beginnings of tokens holds for pictures as well.

A picture is kept whole: some models let its parts see each other, and some give all of them one position, so that a
cache can't be cut in the middle. Knows no llama.cpp; what a projector keeps of a picture until its vectors are there is
its own business (`raw`).
"""

import hashlib
import os
from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass
from enum import Enum

# What stands for a picture in a prompt's text. Nobody can guess it, so no text holds one by chance or malice.
MARK = f"<__media_{os.urandom(16).hex()}__>"


class MediaKind(Enum):
    """What a model may see beside text."""

    PICTURE = "picture"
    SOUND = "sound"


@dataclass(eq=False, slots=True)
class Media:
    """A picture or a sound, or a part of one that models see in parts, at its place in a prompt.

    `start` is the index of its first token, `num_positions` how far it moves the positions of those that follow.
    `grid`, where a model's positions have several dimensions, holds them dimension by dimension, a 32-bit number for
    each token. One that is not `is_causal` must be computed in one piece. `vectors` are the projector's, 32-bit floats.
    """

    key: str
    start: int
    num_tokens: int
    num_positions: int
    is_causal: bool = True
    grid: bytes = b""
    raw: object = None
    vectors: bytes | None = None

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    def stand_ins(self) -> range:
        """Return what stands for it among a prompt's tokens."""
        first = -1 - int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:7], "big")
        return range(first, first - self.num_tokens, -1)


def is_stand_in(token: int) -> bool:
    return token < 0


def whole_media(tokens: Tokens[int], count: int) -> int:
    """Return the largest number up to `count` at which a beginning of `tokens` ends outside of all media."""
    while 0 < count < len(tokens) and is_stand_in(tokens[count]) and tokens[count] == tokens[count - 1] - 1:
        count -= 1
    return count


def texts_between(tokens: Tokens[int], media: Tokens[Media]) -> Iterator[Tokens[int]]:
    """Yield the tokens of a prompt that stand for no picture."""
    start = 0
    for each in media:
        yield tokens[start : each.start]
        start = each.end
    yield tokens[start:]


def position(media: Tokens[Media], index: int) -> int:
    """Return the position that the model gives a token outside of media, by its index in the prompt."""
    return index - sum(each.num_tokens - each.num_positions for each in media if each.end <= index)
