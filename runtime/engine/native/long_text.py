"""Long texts in pieces whose tokens are, one after the other, the tokens of the whole. Pure.

A tokenizer takes up to a hundred bytes of memory for each byte of a word, and all the time that a text takes before it
says how many tokens there are. Most tokenizers split a text into words before they look at anything, but each in its
own way, and others don't. So a place to cut is tried: the tokens of what stands around it must be those of both sides.
"""

import re
from collections.abc import Callable, Iterator

from runtime.errors import RequestError

MAX_PIECE_CHARS = 64 * 1024
_MAX_WORD_CHARS = 8 * MAX_PIECE_CHARS
_SEARCHED_CHARS = 2048  # at the end of a piece
_TRIED_CHARS = 256  # on each side of a cut
_MAX_TRIES = 8  # of each kind
# Where words begin, from the surest kind of place to the least sure.
_PLACES = (re.compile(r"(?<=\w) (?=\w)"), re.compile(r"(?<=\S)\s(?=\S)"), re.compile(r"\b"))

Tokenize = Callable[[str], list[int]]


def pieces(text: str, tokenize: Tokenize) -> Iterator[str]:
    """Yield a text's pieces; a space between two is left out where the tokenizer puts one before each text.

    Raises RequestError when the text can't be cut; the piece before that is the beginning of the word that is too long.
    """
    start = 0
    while len(text) - start > MAX_PIECE_CHARS:
        cut = next(_cuts(text, start, tokenize), None)
        if cut is None:
            yield text[start : start + _MAX_WORD_CHARS]
            if start + _MAX_WORD_CHARS >= len(text):
                return
            raise RequestError(f"the text has a word of more than {_MAX_WORD_CHARS:,} characters; split it")
        end, next_start = cut
        yield text[start:end]
        start = next_start
    yield text[start:]


def _cuts(text: str, start: int, tokenize: Tokenize) -> Iterator[tuple[int, int]]:
    """Yield where a piece from `start` on may end and the next may begin."""
    length = MAX_PIECE_CHARS
    while length <= min(_MAX_WORD_CHARS, len(text) - start):
        end = start + length
        for kind in _PLACES:
            found = [each.start() for each in kind.finditer(text, end - _SEARCHED_CHARS, end)]
            for place in reversed(found[-_MAX_TRIES:]):
                for next_start in (place, place + 1):
                    if _is_seam(text, place, next_start, tokenize):
                        yield place, next_start
        length *= 2


def _is_seam(text: str, end: int, next_start: int, tokenize: Tokenize) -> bool:
    if next_start > end and text[end:next_start] != " ":
        return False
    before, after = text[max(end - _TRIED_CHARS, 0) : end], text[next_start : next_start + _TRIED_CHARS]
    before = before[before.find(" ") + 1 :]  # not from the middle of a word on, as far as that can be seen
    return tokenize(before + text[end:next_start] + after) == tokenize(before) + tokenize(after)
