"""Where a lazy grammar begins: the first of some texts in a stream of pieces, wherever the pieces are cut."""

from enum import Enum, auto

from runtime.engine.values.grammar import Span


class _Phase(Enum):
    BEGINNING = auto()  # the stretch to skip may begin
    SKIPPING = auto()
    SEARCHING = auto()


class TriggerSearch:
    """Looks for the first of some texts in a stream of pieces, wherever the pieces are cut."""

    def __init__(self, triggers: tuple[str, ...], skipped: Span | None = None) -> None:
        self._triggers = tuple(trigger.encode() for trigger in triggers)
        self._num_kept = max((len(trigger) for trigger in self._triggers), default=1) - 1
        self._phase = _Phase.SEARCHING
        self._opening = self._closing = b""
        if skipped is not None:
            self._opening, self._closing = skipped.opening.encode(), skipped.closing.encode()
            self._phase = _Phase.SKIPPING if skipped.is_begun else _Phase.BEGINNING
        self._end = b""

    @property
    def is_skipping(self) -> bool:
        return self._phase is _Phase.SKIPPING

    def found_with(self, piece: bytes) -> bytes | None:
        """Return the stream from the trigger on, were `piece` the next; None while there is no trigger in it."""
        phase, stream = self._read(piece)
        if phase is not _Phase.SEARCHING:
            return None
        places = [place for trigger in self._triggers if (place := stream.find(trigger)) >= 0]
        return stream[min(places) :] if places else None

    def feed(self, piece: bytes) -> None:
        self._phase, stream = self._read(piece)
        num_kept = {
            _Phase.BEGINNING: len(stream),
            _Phase.SKIPPING: len(self._closing) - 1,
            _Phase.SEARCHING: self._num_kept,
        }[self._phase]
        self._end = stream[max(0, len(stream) - num_kept) :]

    def _read(self, piece: bytes) -> tuple[_Phase, bytes]:
        """Return where the stream is after `piece`, and its end that counts there."""
        phase, stream = self._phase, self._end + piece
        if phase is _Phase.BEGINNING:
            text = stream.lstrip()
            if text.startswith(self._opening):
                phase, stream = _Phase.SKIPPING, text[len(self._opening) :]
            elif not self._opening.startswith(text):
                phase = _Phase.SEARCHING
        if phase is _Phase.SKIPPING:
            _skipped, found, rest = stream.partition(self._closing)
            if found:
                phase, stream = _Phase.SEARCHING, rest
        return phase, stream
