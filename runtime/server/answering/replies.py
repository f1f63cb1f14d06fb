"""One answer in a client's shape. Pure.

The engine's events become the client's own events. A stream is those events, framed; the whole is what they
add up to. So both say the same.
"""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from runtime.engine.values.events import Finished, Progress, TextDelta

E = TypeVar("E")


class Reply(Generic[E]):
    """One answer; `finished` is there from the end on."""

    finished: Finished

    def hear(self, event: Progress | TextDelta | Finished) -> Iterable[E]:
        """Return the client's events that one of the engine's makes; all of them must be taken before the next."""
        if isinstance(event, TextDelta):
            return self.take(event)
        if isinstance(event, Progress):
            return self.progress(event)
        self.finished = event
        return self.end(event)

    def progress(self, progress: Progress) -> Iterable[E]:
        return ()

    def take(self, delta: TextDelta) -> Iterable[E]:
        raise NotImplementedError

    def end(self, finished: Finished) -> Iterable[E]:
        raise NotImplementedError

    def open(self) -> Iterable[bytes]:
        """Return the frames that a stream begins with."""
        return ()

    def frames(self, event: E) -> Iterable[bytes]:
        raise NotImplementedError

    def fail(self, error: Exception) -> Iterable[bytes]:
        """Return the frames that end a stream whose answer can't be gone on with."""
        raise NotImplementedError

    def whole(self) -> dict[str, Any]:
        """Return what all events add up to, once the last of them was heard."""
        raise NotImplementedError
