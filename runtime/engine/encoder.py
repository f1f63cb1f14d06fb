"""The thread on which a projector makes vectors of pictures and sounds, before their sequences wait for a slot.

A picture takes a projector from half a second to half a minute, all of its work in one call, so it is done beside the
engine's thread and not between its steps. This thread and those that llama.cpp starts from it have a lower priority:
where others generate they get the processors' time first, and where nobody does, a picture gets all of it.

What was computed last is kept, since a conversation comes back with its pictures at every turn. Knows no HTTP.
"""

import contextlib
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from runtime.engine.native import Projector
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.media import Media
from runtime.errors import EngineError, HoldallError

_NICENESS = 10  # of Linux's 0 to 19: about a tenth of what an ordinary thread gets on a processor they share
_JOIN_SECONDS = 0.5  # what is being computed can't be stopped, and the program ends without it


class Encoder:
    """Computes the vectors that `Sequence.media` lacks. Calls `done` for each sequence, on this thread."""

    def __init__(
        self, projector: Projector, done: Callable[[Sequence, HoldallError | None], None], *, kept_bytes: int
    ) -> None:
        self._projector = projector
        self._done = done
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()  # by the media's keys, the least recently used first
        self._wake = threading.Condition()
        # Guarded by _wake:
        self._waiting: deque[Sequence] = deque()
        self._is_closed = False
        self._failure: EngineError | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises EngineError when the thread has failed."""
        with self._wake:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(sequence)
            self._wake.notify()

    def close(self) -> None:
        """Stop after the picture that is being computed. The sequences that wait get no event."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._projector.close()

    def _run(self) -> None:
        try:
            if sys.platform == "linux":  # elsewhere a niceness is the whole process's
                with contextlib.suppress(OSError):  # where that isn't allowed, pictures take from the others' time
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            self._encode_all()
        except Exception as error:  # a bug of ours: no client is left waiting
            failure = EngineError(f"pictures can't be computed any more: {error!r}; start the program again")
            with self._wake:
                self._failure = failure
                left, self._waiting = self._waiting, deque()
            for sequence in left:
                self._done(sequence, failure)

    def _encode_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                sequence = self._waiting[0]
            started = time.monotonic()
            try:
                self._complete(sequence)
                failure = None
            except HoldallError as error:
                failure = error
            except Exception as error:  # a bug of ours: only the one who sent the picture hears of it
                failure = EngineError(f"a picture could not be computed: {error!r}")
            sequence.media_seconds = time.monotonic() - started
            with self._wake:
                self._waiting.popleft()
            self._done(sequence, failure)

    def _complete(self, sequence: Sequence) -> None:
        for media in sequence.media:
            if sequence.is_cancelled or self._is_closed:
                return
            if media.vectors is None:
                media.vectors = self._kept.get(media.key)
            if media.vectors is None:
                self._projector.encode(media)
            self._keep(media)

    def _keep(self, media: Media) -> None:
        assert media.vectors is not None
        media.raw = None
        self._kept[media.key] = media.vectors
        self._kept.move_to_end(media.key)
        while sum(map(len, self._kept.values())) > self._kept_bytes:
            self._kept.popitem(last=False)
