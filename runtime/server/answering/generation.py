"""The asynchronous side of a sequence: its events as they come, its end when nobody listens any more.

The engine calls a sink on the event loop's thread; a queue turns that into something to wait on. Leaving a
`Generation` cancels the sequence, so that a client who hangs up frees its slot in the engine's next step.

The engine doesn't wait for a client that reads slowly, since others would wait for its slot. What is made meanwhile is
kept, up to a bound for all clients together; then the generation that is most behind ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import ClassVar
from weakref import WeakKeyDictionary

from starlette.requests import Request

from runtime.engine.interface import AnyEngine
from runtime.engine.values.events import Event, Failed, Finished, Progress, TextDelta
from runtime.engine.values.request import GenerationRequest
from runtime.errors import Unavailable
from runtime.server.answering.preparing import prepared

# Of all generations: some 150 bytes each, so 150 MB.
_MAX_UNREAD = 1_000_000
_WEIGHT_OF_EVENT = 3  # of that size, beside the likely tokens that it names
_LITTLE = 1000  # so far behind is anybody now and then


class Generation:
    """One submitted request. Its events are read once, within its `with` block. Event loop thread only."""

    _num_unread: ClassVar["WeakKeyDictionary[Generation, int]"] = WeakKeyDictionary()

    @classmethod
    async def begin(cls, request: Request, engine: AnyEngine, wanted: GenerationRequest) -> "Generation":
        return (await cls.begin_all(request, engine, [wanted]))[0]

    @classmethod
    async def begin_all(
        cls, request: Request, engine: AnyEngine, wanted: Sequence[GenerationRequest]
    ) -> "list[Generation]":
        """Submit all that a client wants, or nothing of it. Raises what `Engine.submit` raises, and ClientDisconnect.

        A thread prepares first what takes long: other streams must not wait for that.
        """
        samplings = (each.params.sampling for each in wanted)
        kept = [  # until all are submitted
            await prepared(request, partial(engine.prepare, sampling))
            for sampling in {replace(each, seed=None) for each in samplings if each.needs_preparing}
        ]
        group = object()
        with contextlib.ExitStack() as begun:
            generations = [begun.enter_context(cls(engine, replace(each, group=group))) for each in wanted]
            begun.pop_all()
        del kept
        return generations

    def __init__(self, engine: AnyEngine, request: GenerationRequest) -> None:
        """Submit. Raises what `Engine.submit` raises, so that a refusal still has a status line to go into."""
        self._engine = engine
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._sequence_id = engine.submit(request, self._hear)

    def __enter__(self) -> "Generation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.cancel(self._sequence_id)
        self._num_unread.pop(self, None)

    def _hear(self, event: Event) -> None:
        self._events.put_nowait(event)
        self._num_unread[self] = self._num_unread.get(self, 0) + _weight(event)
        if self._num_unread[self] > _LITTLE and sum(self._num_unread.values()) > _MAX_UNREAD:
            max(self._num_unread, key=lambda each: self._num_unread[each])._give_up()

    def _give_up(self) -> None:
        """Drop what is unread, and everything later."""
        self._engine.cancel(self._sequence_id)
        self._num_unread.pop(self)
        self._events = asyncio.Queue()
        self._events.put_nowait(Failed(Unavailable("this answer was read too slowly, and is not gone on with")))

    async def __aiter__(self) -> AsyncIterator[Progress | TextDelta | Finished]:
        """Yield deltas, before them progress where the request wants it, and, last, how it finished.

        Raises the engine's error when it could not go on.
        """
        while True:
            event = await self._events.get()
            if self in self._num_unread:
                self._num_unread[self] -= _weight(event)
            if isinstance(event, Failed):
                raise event.error
            yield event
            if isinstance(event, Finished):
                return


def _weight(event: Event) -> int:
    """Return about how large an event is, in likely tokens."""
    probs = event.probs if isinstance(event, (Progress, TextDelta)) else ()
    return _WEIGHT_OF_EVENT + sum(len(each.top) for each in probs)
