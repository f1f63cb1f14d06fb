"""An answer's parts, each with the probabilities of its tokens. Pure.

A token's text may be held back twice: by the engine, while it may yet become a stop string or is but a part of a
character, and by the reader, while it may yet become a mark. The token's probabilities wait for as long. Tokens that
became a stop string never get their text, so their probabilities are never handed out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.chat.answer import AnswerEvent
from runtime.chat.reader import AnswerReader
from runtime.engine.values.events import TextDelta, TokenProbs

Probs = tuple[TokenProbs, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A part of an answer, and the probabilities of the tokens since the part before it. `event` None: of a mark."""

    event: AnswerEvent | None
    probs: Probs


class ScoredReader:
    """Reads one answer as its reader does, and keeps the probabilities beside it."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader
        self._without_text: Probs = ()  # the engine holds back their text
        self._unread: Probs = ()  # the reader does

    def take(self, delta: TextDelta) -> list[Scored]:
        """Take more of the answer and return the parts that are known by now."""
        self._without_text += delta.probs
        if not delta.text:
            return []
        self._unread, self._without_text = self._unread + self._without_text, ()
        events = self._reader.feed(delta.text)
        return self._scored(events, is_holding=self._reader.is_holding)

    def end(self) -> list[Scored]:
        """Return what was kept back, once the answer is complete."""
        return self._scored(self._reader.finish(), is_holding=False)

    def _scored(self, events: Sequence[AnswerEvent], *, is_holding: bool) -> list[Scored]:
        parts = []
        for event in events:
            parts.append(Scored(event, self._unread))
            self._unread = ()
        if self._unread and not is_holding:
            parts.append(Scored(None, self._unread))
            self._unread = ()
        return parts
