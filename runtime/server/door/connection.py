"""uvicorn's HTTP connection, with patience that ends.

uvicorn waits for ever for the rest of a request and takes any number of connections; a client that sends a byte now and
then would hold its place until the program ends. Here a request's head must be complete after a while, its body must
keep coming, in pieces that are worth their handling, and when all places are taken a connection that only rests makes
room for a new one.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.server.answering.streaming import to_json


@dataclass(frozen=True, slots=True)
class Patience:
    """`head_seconds` for a whole head; in each `body_seconds` a body brings `min_body_bytes` or its end.

    For `parting_seconds` a client that is refused in the midst of its body may read why.
    """

    head_seconds: float = 15.0
    body_seconds: float = 10.0
    min_body_bytes: int = 10 * 1024
    parting_seconds: float = 2.0
    max_connections: int = 512  # less than the 1,024 files that a process may have open by default


_MAX_HEAD_BYTES = 64 * 1024  # uvicorn's own limit
_FREE_CHUNKS = 2048  # some hundredths of a second
_MIN_CHUNK_BYTES = 256  # in the mean, of a body in more chunks than those
_TOO_FINE = f"the request's body comes in too many small chunks; send at least {_MIN_CHUNK_BYTES} bytes in each"


class _Awaited(Enum):
    """What the client still owes."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


_AWAITED = {h11.IDLE: _Awaited.HEAD, h11.SEND_BODY: _Awaited.BODY}


class _Protocol(h11.Connection):
    """h11's side of a server, which refuses bodies in very many small chunks.

    Each chunk takes as long as some kilobytes, so a megabyte in chunks of one byte would keep all others waiting.
    """

    _num_chunks = 0
    _num_bytes = 0
    is_too_fine = False

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_chunks = self._num_bytes = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._num_chunks += 1
        if isinstance(event, h11.Data):
            self._num_bytes += len(event.data)
            self.is_too_fine = self._num_chunks > max(_FREE_CHUNKS, self._num_bytes / _MIN_CHUNK_BYTES)
        if self.is_too_fine:
            raise h11.RemoteProtocolError(_TOO_FINE)
        return event


class Connection(H11Protocol):
    """One client's connection. Belongs to the event loop's thread, as all of uvicorn does."""

    patience = Patience()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn: _Protocol = _Protocol(h11.SERVER, _MAX_HEAD_BYTES)
        self._awaited = _Awaited.NOTHING
        self._is_refused = False
        self._num_received = 0  # bytes since the timer was set
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_resting(self) -> bool:
        """Whether an answer is complete, the next request hasn't begun, and nobody has taken the place yet."""
        return self.timeout_keep_alive_task is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.patience.max_connections:
            resting = next(
                (each for each in self.connections if isinstance(each, Connection) and each.is_resting), None
            )
            if resting is None:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")
                return
            resting.timeout_keep_alive_handler()
        self._await(_Awaited.HEAD)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        self._num_received += len(data)
        self._await(_AWAITED.get(self.conn.their_state, _Awaited.NOTHING))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What came before the answer was complete may hold the next request, less the end of its body.
        if self.conn.their_state is h11.SEND_BODY:
            self._await(_Awaited.BODY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(_Awaited.NOTHING)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if not self.conn.is_too_fine:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)
            return
        self._answer(HTTPStatus.BAD_REQUEST, _TOO_FINE)
        # Closing while more comes in would reset the connection, and the client would not read why.
        self._is_refused = True
        self._await(_Awaited.NOTHING)
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self.patience.parting_seconds, self.transport.close)

    def _await(self, awaited: _Awaited) -> None:
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if awaited is _Awaited.HEAD:
            self._timer = self.loop.call_later(self.patience.head_seconds, self._on_slow_head)
        elif awaited is _Awaited.BODY:
            self._set_body_timer()

    def _set_body_timer(self) -> None:
        self._num_received = 0
        self._timer = self.loop.call_later(self.patience.body_seconds, self._on_body_time)

    def _on_slow_head(self) -> None:
        if self._num_received == 0:  # browsers open connections that they then don't need; that is no mistake
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request's head came too slowly")

    def _on_body_time(self) -> None:
        # While reading is paused it is this side that is slow.
        if self.flow.read_paused or self._num_received >= self.patience.min_body_bytes:
            self._set_body_timer()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request's body came too slowly")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer and close."""
        self._answer(status, message)
        self.transport.close()

    def _answer(self, status: HTTPStatus, message: str) -> None:
        """Answer in the shape of most dialects, since a head that isn't read names no path."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            kind = "unavailable_error" if status >= 500 else "invalid_request_error"
            error = {"message": message, "type": kind, "code": status.value, "param": None}
            body = to_json({"error": error}).encode("ascii")
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"connection", b"close"),
            ]
            response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode("ascii"))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
