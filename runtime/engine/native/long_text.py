"""Long texts in pieces whose tokens are, one after the other, the tokens of the whole. Pure.

A tokenizer takes up to a hundred bytes of memory for each byte of a word, and all the time that a text takes before it
says how many tokens there are. Most tokenizers split a text into words before they look at anything, but each in its
own way, and others don't. So a place to cut is tried: the tokens of what stands around it must be those of both sides.
"""

import re
from collections.abc import Callable, Iterator

from runtime.errors import RequestError

MAX_PIECE_CHARS = 32 * 1024
_MAX_WORD_CHARS = 2 * MAX_PIECE_CHARS
_SEARCHED_CHARS = 2048  # at the end of a piece
_TRIED_CHARS = 256  # on each side of a cut
_MAX_TRIES = 8  # of each kind
# Where words begin, from the surest kind of place to the least sure.
_PLACES = (re.compile(r"(?<=\w) (?=\w)"), re.compile(r"(?<=\S)\s(?=\S)"), re.compile(r"\b"))
# Some tokenizers put a space before each text; behind a line's end they put none.
_BEFORE = "\n"

Tokenize = Callable[[str], list[int]]


def tokens_of_pieces(text: str, tokenize: Tokenize) -> Iterator[list[int]]:
    """Yield the tokens of one piece after the other.

    Raises RequestError for a word that can't be cut; the last tokens before that are those of its beginning.
    """

    def tokenize_continued(piece: str) -> list[int]:
        return tokenize(_BEFORE + piece)[len(tokenize(_BEFORE)) :]

    start, tokenize_next = 0, tokenize
    ways = (tokenize, tokenize_continued)
    while len(text) - start > MAX_PIECE_CHARS:
        seams = (
            (end, way)
            for end, before, after in _places(text, start)
            for way in ways
            if tokenize(before + after) == tokenize(before) + way(after)
        )
        end, following = next(seams, (None, tokenize))
        yield tokenize_next(text[start : end or start + _MAX_WORD_CHARS])
        if end is None:
            raise RequestError(f"the text has a word of more than {_MAX_WORD_CHARS:,} characters; split it")
        start, tokenize_next = end, following
    yield tokenize_next(text[start:])


def _places(text: str, start: int) -> Iterator[tuple[int, str, str]]:
    """Yield where a piece that begins at `start` might end, with enough of what stands before and after to try it."""
    end = start + MAX_PIECE_CHARS
    for kind in _PLACES:
        found = [each.start() for each in kind.finditer(text, end - _SEARCHED_CHARS, end)]
        for place in reversed(found[-_MAX_TRIES:]):
            before = text[max(place - _TRIED_CHARS, start) : place]
            # Not from the middle of a word on, as far as that can be seen.
            yield place, before[before.find(" ") + 1 :], text[place : place + _TRIED_CHARS]
    for place in range(end, end - _MAX_TRIES, -1):  # within a word its tokens depend on where it begins
        yield place, text[start:place], text[place : place + _TRIED_CHARS]
