"""An answer's text taken apart while it is written: thinking, the answer itself, calls of tools. Pure.

Fed with the text in whatever pieces it comes, the reader returns the same events but for where their texts are cut. It
keeps back what may yet become a mark, and white space beside marks, which belongs to no part.
"""

from enum import Enum, auto

from runtime.chat.answer import AnswerEvent, ReasoningPart, TextPart
from runtime.chat.calls import CallReader
from runtime.chat.reasoning import Stage, ThinkingState
from runtime.engine.policy.text import length_of_partial_end


class _State(Enum):
    BEGINNING = auto()  # the opening mark of thinking may still come
    THINKING = auto()
    GAP = auto()  # between the thinking and the answer
    TEXT = auto()
    CALLS = auto()


_MAX_HEAD = 100  # characters of marks and a channel's name, before what begins a call
_BEGIN = {Stage.POSSIBLE: _State.BEGINNING, Stage.BEGUN: _State.THINKING, Stage.ENDED: _State.GAP}


class AnswerReader:
    """Reads one answer. `thinking` None: nothing in it is such. `calls` None: nothing in it is a call."""

    def __init__(self, thinking: ThinkingState | None, calls: CallReader | None) -> None:
        self._marks = thinking.marks if thinking else None
        self._calls = calls
        self._state = _BEGIN[thinking.stage] if thinking else _State.TEXT
        self._held = ""
        self._has_thought = False

    @property
    def is_holding(self) -> bool:
        """Whether some of the text is kept back; otherwise all of it was returned, or was a mark."""
        return bool(self._held)

    def feed(self, text: str) -> list[AnswerEvent]:
        """Take more of the answer and return the events that are certain by now."""
        self._held += text
        return self._read(is_last=False)

    def finish(self) -> list[AnswerEvent]:
        """Return what was kept back, once the answer is complete."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> list[AnswerEvent]:
        events: list[AnswerEvent] = []
        state = None
        while state is not self._state:  # a change of state leaves something to read for the next one
            state = self._state
            match state:
                case _State.BEGINNING:
                    self._begin(is_last=is_last)
                case _State.THINKING:
                    events += self._think(is_last=is_last)
                case _State.GAP:
                    self._bridge(is_last=is_last)
                case _State.TEXT:
                    events += self._say(is_last=is_last)
                case _State.CALLS:
                    assert self._calls is not None
                    held, self._held = self._held, ""
                    events += self._calls.feed(held)
                    if is_last:
                        events += self._calls.finish()
        return events

    def _begin(self, *, is_last: bool) -> None:
        assert self._marks is not None
        text, opening, first_mark = self._held.lstrip(), self._marks.opening, self._marks.first_mark
        if text.startswith(opening):
            self._held = text[len(opening) :]
            self._state = _State.THINKING
        elif is_last or not (opening.startswith(text) or first_mark.startswith(text)):
            self._state = _State.GAP if first_mark and text.startswith(first_mark) else _State.TEXT

    def _bridge(self, *, is_last: bool) -> None:
        self._held = self._held.lstrip()
        num_chars = self._length_of_head(self._held)
        if num_chars is not None or is_last:
            self._held = self._held[num_chars or 0 :]
            self._state = _State.TEXT

    def _length_of_head(self, text: str) -> int | None:
        """Return how much of a text that begins after the thinking is neither answer nor call; None: not known yet."""
        assert self._marks is not None
        opening, first_mark = self._marks.answer_opening, self._marks.first_mark
        if opening and text.startswith(opening):
            return len(opening)
        if self._calls and first_mark and text.startswith(first_mark):
            begin = self._calls.find(text)
            return begin if begin is not None or len(text) < _MAX_HEAD else 0
        return None if opening.startswith(text) else 0

    def _think(self, *, is_last: bool) -> list[AnswerEvent]:
        assert self._marks is not None
        closing = self._marks.closing
        if not self._has_thought:
            self._held = self._held.lstrip()
        thought, found, rest = self._held.partition(closing)
        if found:
            self._state = _State.GAP
        elif not is_last:
            thought, rest = _cut(thought, length_of_partial_end(thought, closing))
        shown = thought.rstrip()
        self._held = rest if found else thought[len(shown) :] + rest
        self._has_thought = self._has_thought or bool(shown)
        return [ReasoningPart(shown)] if shown else []

    def _say(self, *, is_last: bool) -> list[AnswerEvent]:
        if self._calls is None:
            text, self._held = self._held, ""
            return [TextPart(text)] if text else []
        begin = self._calls.find(self._held)
        if begin is not None:
            text, self._held = _cut(self._held, len(self._held) - begin)
            text = text.rstrip()
            self._state = _State.CALLS
        elif is_last:
            text, self._held = self._held, ""
        else:
            text, rest = _cut(self._held, self._calls.length_of_partial_end(self._held))
            shown = text.rstrip()
            text, self._held = shown, text[len(shown) :] + rest
        return [TextPart(text)] if text else []


def _cut(text: str, num_kept: int) -> tuple[str, str]:
    return text[: len(text) - num_kept], text[len(text) - num_kept :]
