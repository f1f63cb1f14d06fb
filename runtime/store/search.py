"""How a search sees text: letters without case and accents, so that "ete" finds "Été". Pure."""

import unicodedata

_CONTEXT = 60  # characters shown before what was found
_SNIPPET = 200
_PIECE = 64
_MAX_WORDS = 16


def fold(text: str) -> str:
    """Return the form in which texts are compared. What holds for a text's parts holds for the whole."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join([c for c in decomposed if not unicodedata.combining(c)]).casefold()


def words_of(query: str) -> list[str]:
    """Return the folded words of a query, no more than a person means; each must be found somewhere in a chat."""
    return list(dict.fromkeys(fold(query).split()))[:_MAX_WORDS]


def snippet(text: str, folded: str, word: str) -> str:
    """Return the piece of a text around a folded word, on one line; its beginning when the word isn't there."""
    start = max(_position(text, folded, word) - _CONTEXT, 0)
    end = start + _SNIPPET
    piece = " ".join(text[start:end].split())
    return ("…" if start else "") + piece + ("…" if end < len(text) else "")


def _position(text: str, folded: str, word: str) -> int:
    """Return about where in a text the folded word begins, 0 when it doesn't."""
    left = max(folded.find(word), 0)
    if len(folded) == len(text):  # nearly always: "É" and "e" have one character each
        return left
    for start in range(0, len(text), _PIECE):
        num_folded = len(fold(text[start : start + _PIECE]))
        if left < num_folded:
            return start
        left -= num_folded
    return 0
