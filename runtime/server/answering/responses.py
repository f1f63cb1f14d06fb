"""Answers as ASGI applications: JSON at once, or a stream of events that follows a generation."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.engine.values.events import Finished, Progress, TextDelta
from runtime.errors import RequestError
from runtime.server.answering.awaited import while_connected
from runtime.server.answering.generation import Generation
from runtime.server.answering.replies import Reply
from runtime.server.answering.streaming import to_json

_FEW_PROBS = 2000  # some milliseconds
_MAX_PROBS = 2_000_000  # of one request; each takes a hundred bytes, and as many once it is written

Part = tuple[Generation, Reply[Any]]

# Uvicorn's logger, at a level that only --verbose shows: tracebacks are for that.
_log = logging.getLogger("uvicorn.error")


class JsonResponse(Response):
    """JSON in ASCII: any text that came in can go out again, half surrogates included."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return to_json(content).encode("ascii")


class NoResponse(Response):
    """For a client that is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


class EventStream(Response):
    """Generations' events in a client's frames, one write for each, until all end or the client hangs up."""

    media_type = "text/event-stream"

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.status_code = 200
        self.background = None
        self.init_headers(_STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _while_connected(receive, self._parts, self._send(send))
        except (ClientDisconnect, OSError):  # uvicorn's word for a write to a closed connection is OSError
            _log.debug("a client left before its answer was complete")

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        probs = _ProbCount()
        if len(self._parts) == 1:
            await _follow(send, *self._parts[0], probs)
        else:
            await _all_done([asyncio.create_task(_follow(send, *part, probs)) for part in self._parts])
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class LineStream(EventStream):
    """The same for a client whose frames are lines of JSON."""

    media_type = "application/x-ndjson"


async def respond(
    request: Request,
    parts: Sequence[Part],
    whole: Callable[[], object],
    *,
    is_streamed: bool,
    stream: type[EventStream] = EventStream,
) -> Response:
    """Return a stream of the replies, or, once all of them have heard their generation's end, the `whole` of them.

    Raises the engine's error, or ClientDisconnect.
    """
    if is_streamed:
        return stream(parts)
    probs = _ProbCount()
    await _while_connected(request.receive, parts, _hear_all(parts, probs))
    if probs.num_all > _FEW_PROBS:
        return await asyncio.to_thread(lambda: JsonResponse(whole()))
    return JsonResponse(whole())


class _ProbCount:
    """Counts the probabilities that an answer reports, which are by far the most of it where there are any."""

    def __init__(self) -> None:
        self.num_all = 0
        self.num_new = 0  # since they were last written

    def hear(self, event: Progress | TextDelta | Finished) -> None:
        """Raises RequestError for more than an answer may have."""
        num_more = sum(1 + len(each.top) for each in event.probs)
        self.num_all += num_more
        self.num_new += num_more
        if self.num_all > _MAX_PROBS:
            raise RequestError(f"the answer has more than {_MAX_PROBS:,} probabilities; ask for fewer of them")


async def _while_connected(receive: Receive, parts: Sequence[Part], work: Coroutine[Any, Any, None]) -> None:
    """Do the work; no generation goes on after it, or when the client is gone."""
    with contextlib.ExitStack() as all_of_them:
        for generation, _reply in parts:
            all_of_them.enter_context(generation)
        await while_connected(receive, work)


async def _hear_all(parts: Sequence[Part], probs: _ProbCount) -> None:
    """Hear all at once: what one says while another is heard would count as unread."""
    if len(parts) == 1:
        await _hear(*parts[0], probs)
    else:
        await _all_done([asyncio.create_task(_hear(*part, probs)) for part in parts])


async def _hear(generation: Generation, reply: Reply[Any], probs: _ProbCount) -> None:
    async for event in generation:
        probs.hear(event)
        for _heard in reply.hear(event):
            pass


async def _follow(send: Send, generation: Generation, reply: Reply[Any], probs: _ProbCount) -> None:
    """Write one generation's frames."""
    try:
        for frame in reply.open():
            await _write(send, frame)
        async for event in generation:
            probs.hear(event)
            for heard in reply.hear(event):
                for frame in await _frames(reply, heard, probs):
                    await _write(send, frame)
    except OSError:
        raise
    except Exception as error:  # the status line is out: only a frame can still report it
        log_fault(error)
        for frame in reply.fail(error):
            await _write(send, frame)


async def _frames(reply: Reply[Any], heard: Any, probs: _ProbCount) -> Iterable[bytes]:
    """Return the frames of an event, made on a thread where they may hold very many probabilities."""
    # The last events may repeat all that there were.
    num_probs = probs.num_all if hasattr(reply, "finished") else probs.num_new
    probs.num_new = 0
    if num_probs <= _FEW_PROBS:
        return reply.frames(heard)
    return await asyncio.to_thread(lambda: list(reply.frames(heard)))


async def _all_done(tasks: list["asyncio.Task[None]"]) -> None:
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


# no-transform and X-Accel-Buffering: a proxy in between must neither join nor hold back the frames.
_STREAM_HEADERS: Mapping[str, str] = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}


async def _write(send: Send, frame: bytes) -> None:
    await send({"type": "http.response.body", "body": frame, "more_body": True})


def log_fault(error: BaseException) -> None:
    """Log an error with its traceback, for `--verbose` alone."""
    _log.info("a request failed", exc_info=error)
