"""uvicorn's HTTP connection, with patience that ends.

uvicorn waits for ever for the rest of a request and for an answer to be taken, and takes any number of connections; a
client that sends a byte now and then, or reads nothing, would hold its place until the program ends. Here a request's
head must be complete after a while, its body must keep coming, in pieces that are worth their handling, and an answer
must be taken, however slowly. When all places are taken, the connection that has least use for its own makes room for a
new one: first one that only rests, then one whose client takes nothing, then one whose request still isn't here.
"""

import asyncio
import socket
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.server.answering.streaming import to_json

_KEPT_BY_SYSTEM_BYTES = 256 * 1024  # of what a client hasn't taken


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may leave us waiting, and how much it may have us keep.

    `head_seconds` for a whole head; in each `body_seconds` a body brings `min_body_bytes` or its end; in
    `taking_seconds` something is taken of an answer that waits to be taken. For `parting_seconds` a client that is
    refused in the midst of its body may read why. Who has waited for `grace_seconds` makes room where room is needed.
    `max_pipelined_bytes` may follow a request that isn't answered yet. `max_unread_bytes` of answers wait in all
    connections together; then those whose client takes nothing for `crowded_seconds` go, but for small ones.
    """

    head_seconds: float = 15.0
    body_seconds: float = 10.0
    min_body_bytes: int = 10 * 1024
    parting_seconds: float = 2.0
    max_connections: int = 512  # less than the 1,024 files that a process may have open by default
    taking_seconds: float = 120.0  # somebody may have stopped a client in a debugger, or closed a laptop for a moment
    crowded_seconds: float = 10.0
    grace_seconds: float = 1.0
    max_pipelined_bytes: int = 64 * 1024
    max_unread_bytes: int = 128 * 1024 * 1024

    @property
    def num_small_bytes(self) -> int:
        """So much may wait in every connection at once."""
        return self.max_unread_bytes // self.max_connections


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


class _Use(IntEnum):
    """What a connection does with its place, the least first."""

    RESTING = auto()
    STALLED = auto()
    ASKING = auto()
    WORKING = auto()


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
        self._num_unread = 0  # bytes when it was looked at last
        self._unread_timer: asyncio.TimerHandle | None = None
        self._since = self.loop.time()  # when it last got on

    @property
    def num_unread(self) -> int:
        """How many bytes of answers the client hasn't taken, beside those that the system keeps for it."""
        return self.transport.get_write_buffer_size()

    @property
    def is_open(self) -> bool:
        """Whether it holds its place: one that is closed does so until what was written is taken."""
        return not self.transport.is_closing() or self.num_unread > 0

    @property
    def _use(self) -> _Use:
        if self.num_unread:
            return _Use.STALLED
        if self.timeout_keep_alive_task is not None:  # an answer is complete, the next request hasn't begun
            return _Use.RESTING
        return _Use.WORKING if self._awaited is _Awaited.NOTHING else _Use.ASKING

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` tells of anything that isn't taken
        # Linux would keep megabytes for each client that doesn't read.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KEPT_BY_SYSTEM_BYTES)
        if len(self.connections) > self.patience.max_connections and not self._has_room():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")
            return
        self._await(_Awaited.HEAD)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        self._num_received += len(data)
        self._await(_AWAITED.get(self.conn.their_state, _Awaited.NOTHING))
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) > self.patience.max_pipelined_bytes:
            self.transport.abort()  # in the middle of an answer there is no place for words

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        # What came before the answer was complete may hold the next request, less the end of its body.
        if self.conn.their_state is h11.SEND_BODY:
            self._await(_Awaited.BODY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(_Awaited.NOTHING)
        self._unset_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()
        self._num_unread = self.num_unread
        self._unread_timer = self.loop.call_later(self.patience.grace_seconds, self._on_unread_time)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._since = self.loop.time()
        self._unset_unread_timer()

    def _unset_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _on_unread_time(self) -> None:
        """Look again and again how much the client has taken, until it has taken all."""
        now, num_unread = self.loop.time(), self.num_unread
        # More may wait than before where several answers are written at once, though some of it was taken.
        if num_unread != self._num_unread:
            self._since = now
        elif now - self._since >= self.patience.taking_seconds or (
            now - self._since >= self.patience.crowded_seconds and self._is_one_too_large(num_unread)
        ):
            self.transport.abort()
            return
        self._num_unread = num_unread
        self._unread_timer = self.loop.call_later(self.patience.grace_seconds, self._on_unread_time)

    def _is_one_too_large(self, num_unread: int) -> bool:
        if num_unread <= self.patience.num_small_bytes:
            return False
        return sum(each.num_unread for each in self._all()) > self.patience.max_unread_bytes

    def _all(self) -> "list[Connection]":
        return [each for each in self.connections if isinstance(each, Connection)]

    def _has_room(self) -> bool:
        """Whether there is a place for this connection, if need be that of the one with least use for its own."""
        others = [each for each in self._all() if each is not self and each.is_open]
        if len(others) < self.patience.max_connections:
            return True
        latest = self.loop.time() - self.patience.grace_seconds
        removable = (
            each
            for each in others
            if each._use is _Use.RESTING or (each._use is not _Use.WORKING and each._since <= latest)
        )
        other = min(removable, key=lambda each: (each._use, each._since), default=None)
        if other is not None:
            other._make_room()
        return other is not None

    def _make_room(self) -> None:
        if self._use is _Use.RESTING:
            self.timeout_keep_alive_handler()
        elif self._use is _Use.ASKING:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; send requests faster")
        else:
            self.transport.abort()

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
        self._since = self.loop.time()
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
            self._since = self.loop.time()
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
