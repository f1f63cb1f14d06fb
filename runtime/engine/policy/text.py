"""Pieces to text: whole characters only, and never a part of a stop string.

A token's piece may end in the middle of a UTF-8 character, and a stop string may lie across several pieces. So the
stream keeps back the bytes of an unfinished character, and the longest end of the text that could still become a stop
string. Whatever way the same bytes are cut into pieces, the same text comes out.
"""

import codecs


class TextStream:
    """Fed with pieces, returns text that is safe to show. `stopping_string` is set once a stop string was met."""

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = tuple(s for s in stop if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopping_string = ""

    def feed(self, piece: bytes) -> str:
        """Take the next piece and return what may be shown now; nothing more after a stop string."""
        if self.stopping_string:
            return ""
        text = self._held + self._decoder.decode(piece)
        if not self._stop:
            return text
        found = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            # The earliest wins; of several at one place the longest, so that the order in the request is no matter.
            at, self.stopping_string = min(found, key=lambda match: (match[0], -len(match[1])))
            self._held = ""
            return text[:at]
        keep = max(length_of_partial_end(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """Return the text kept back for a stop string that didn't come; an unfinished character is dropped."""
        held, self._held = self._held, ""
        return held


def length_of_partial_end(text: str, stop: str) -> int:
    """Return how long an end of `text` is that could become `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
