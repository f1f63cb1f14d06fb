"""The asynchronous side of a sequence: its events as they come, its end when nobody listens any more.

The engine calls a sink on the event loop's thread; a queue turns that into something to wait on. Leaving a
`Generation` cancels the sequence, so that a client who hangs up frees its slot in the engine's next step.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import TracebackType

from runtime.engine.interface import AnyEngine
from runtime.engine.values.events import Event, Failed, Finished, Progress, TextDelta
from runtime.engine.values.request import GenerationRequest


class Generation:
    """One submitted request. Its events are read once, within its `with` block."""

    @classmethod
    async def begin(cls, engine: AnyEngine, request: GenerationRequest) -> "Generation":
        return (await cls.begin_all(engine, [request]))[0]

    @classmethod
    async def begin_all(cls, engine: AnyEngine, requests: Sequence[GenerationRequest]) -> "list[Generation]":
        """Submit all of the requests, or none of them, as one client's. Raises what `Engine.submit` raises.

        A thread prepares first what takes long: other streams must not wait for that.
        """
        samplings = (request.params.sampling for request in requests)
        for sampling in {replace(each, seed=None) for each in samplings if each.needs_preparing}:
            await asyncio.to_thread(engine.prepare, sampling)
        group = object()
        with contextlib.ExitStack() as begun:
            generations = [begun.enter_context(cls(engine, replace(request, group=group))) for request in requests]
            begun.pop_all()
        return generations

    def __init__(self, engine: AnyEngine, request: GenerationRequest) -> None:
        """Submit. Raises what `Engine.submit` raises, so that a refusal still has a status line to go into."""
        self._engine = engine
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._sequence_id = engine.submit(request, self._events.put_nowait)

    def __enter__(self) -> "Generation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.cancel(self._sequence_id)

    async def __aiter__(self) -> AsyncIterator[Progress | TextDelta | Finished]:
        """Yield deltas, before them progress where the request wants it, and, last, how it finished.

        Raises the engine's error when it could not go on.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, Failed):
                raise event.error
            yield event
            if isinstance(event, Finished):
                return
