"""How a search sees text: letters without case and accents, so that "ete" finds "Été". Pure."""

import unicodedata
from bisect import bisect_left

_CONTEXT = 60  # characters shown before what was found
_SNIPPET = 200
_PIECE = 1024


def fold(text: str) -> str:
    """Return the form in which texts are compared. What holds for a text's parts holds for the whole."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join([c for c in decomposed if not unicodedata.combining(c)]).casefold()


def words_of(query: str) -> list[str]:
    """Return the folded words of a query; each must be found somewhere in a chat."""
    return fold(query).split()


def snippet(text: str, word: str) -> str:
    """Return the piece of a text around a folded word, on one line, the whole beginning when it isn't there."""
    start = max(_position(text, word) - _CONTEXT, 0)
    end = start + _SNIPPET
    piece = " ".join(text[start:end].split())
    return ("…" if start else "") + piece + ("…" if end < len(text) else "")


def _position(text: str, word: str) -> int:
    """Return where in a text the folded word begins, 0 when it doesn't."""
    left = max(fold(text).find(word), 0)
    if text.isascii():
        return left
    # Folding changes lengths, so the text is folded again piece by piece until as much has gone by.
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        num_folded = len(fold(piece))
        if left < num_folded:
            ends = range(len(piece) + 1)
            return start + max(bisect_left(ends, left + 1, key=lambda end: len(fold(piece[:end]))) - 1, 0)
        left -= num_folded
    return 0
