"""Clients that are slow, broken or many, over a real loopback connection.

No test here waits for a time to pass: each waits for the server to close the connection, which it does soon because its
patience is made short.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.server.door.connection import Connection, Patience
from tests.fakes import ScriptedEngine
from tests.serving import TIMEOUT_SECONDS, listening, make_app

SOON = 0.05
NEVER = 3600.0
HEAD = b"POST /completion HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
BODY = b'{"prompt": "Hi"}'
GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


def patient(**patience: float) -> type[Connection]:
    return type("Patient", (Connection,), {"patience": Patience(**patience)})  # type: ignore[arg-type]


def run(
    scenario: Callable[[Connect], Awaitable[None]], kind: type[Connection], engine: ScriptedEngine | None = None
) -> None:
    async def play() -> None:
        async with serving(engine or ScriptedEngine(), kind) as connect:
            await scenario(connect)

    asyncio.run(asyncio.wait_for(play(), TIMEOUT_SECONDS))


@contextlib.asynccontextmanager
async def serving(engine: ScriptedEngine, kind: type[Connection]) -> AsyncIterator[Connect]:
    writers = []
    async with listening(make_app(engine), http=kind) as address:
        host, port = address.removeprefix("http://").split(":")

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection(host, int(port))
            writers.append(writer)
            return reader, writer

        yield connect
        for writer in writers:
            writer.close()


async def read_to_the_end(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    """Return the status and the error of the only answer before the connection closes."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize("sent", [b"G", GET[:-2], HEAD % 5 + b"x"], ids=["a byte", "no end of head", "half a body"])
def test_who_never_finishes_a_request_is_sent_away(sent: bytes) -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(sent)
        status, error = await read_to_the_end(reader)
        assert (status, error["type"], error["code"]) == (408, "invalid_request_error", 408)
        assert "too slowly" in str(error["message"])

    run(scenario, patient(head_seconds=SOON, body_seconds=SOON))


def test_a_connection_that_never_speaks_is_closed_without_a_word() -> None:
    async def scenario(connect: Connect) -> None:
        reader, _writer = await connect()
        assert await reader.read() == b""

    run(scenario, patient(head_seconds=SOON))


def test_a_body_that_keeps_coming_may_take_its_time() -> None:
    windows: asyncio.Queue[None] = asyncio.Queue()

    class Watched(Connection):
        patience = Patience(head_seconds=NEVER, body_seconds=SOON, min_body_bytes=10)

        def _set_body_timer(self) -> None:
            super()._set_body_timer()
            windows.put_nowait(None)

    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(HEAD % (len(BODY) + 30))
        for _ in range(3):  # a little in each of three windows
            await windows.get()
            writer.write(b" " * 10)
        await windows.get()
        writer.write(BODY)
        assert b"200 OK" in await reader.readline()

    run(scenario, Watched)


def test_a_body_that_trickles_is_cut_off() -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(HEAD % 1_000_000 + b" " * 999)
        assert (await read_to_the_end(reader))[0] == 408

    run(scenario, patient(head_seconds=NEVER, body_seconds=SOON, min_body_bytes=1000))


def test_an_answer_may_take_longer_than_a_request() -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(HEAD % len(BODY) + BODY)
        await engine.submitted.wait()
        silent, _writer = await connect()
        assert await silent.read() == b""  # so patience has come to an end for who came later
        for _ in range(3):
            engine.step()
        assert b"200 OK" in await reader.readline()

    engine = ScriptedEngine(is_held=True)
    run(scenario, patient(head_seconds=SOON, body_seconds=SOON), engine)


def test_a_client_that_rests_between_requests_is_kept() -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            await reader.readexactly(len(b'{"status":"ok"}'))
            silent, _writer = await connect()
            assert await silent.read() == b""

    run(scenario, patient(head_seconds=SOON, body_seconds=SOON))


def test_a_second_request_is_waited_for_as_briefly_as_the_first() -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(GET)
        await reader.readuntil(b'{"status":"ok"}')
        writer.write(GET[:10])
        assert (await read_to_the_end(reader))[0] == 408

    run(scenario, patient(head_seconds=SOON, body_seconds=SOON))


def test_half_a_request_behind_a_whole_one_is_not_waited_for_for_ever() -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(GET + HEAD % 100 + b"half")
        await reader.readuntil(b'{"status":"ok"}')
        assert (await read_to_the_end(reader))[0] == 408

    run(scenario, patient(head_seconds=NEVER, body_seconds=SOON))


def test_what_is_no_http_is_a_400_in_our_shape() -> None:
    async def scenario(connect: Connect) -> None:
        for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"a" * 100_000):
            reader, writer = await connect()
            writer.write(garbage)
            status, error = await read_to_the_end(reader)
            assert (status, error["code"]) == (400, 400)

    run(scenario, patient())


def test_one_too_many_takes_the_place_of_one_that_rests() -> None:
    async def scenario(connect: Connect) -> None:
        resting, writer = await connect()
        writer.write(GET)
        await resting.readuntil(b'{"status":"ok"}')
        busy, busy_writer = await connect()
        busy_writer.write(HEAD % len(BODY) + BODY)
        await engine.submitted.wait()
        third, third_writer = await connect()
        assert await resting.read() == b""
        third_writer.write(GET)
        assert b"200 OK" in await third.readline()
        for _ in range(3):
            engine.step()
        assert b"200 OK" in await busy.readline()

    engine = ScriptedEngine(is_held=True)
    run(scenario, patient(max_connections=2), engine)


def test_one_that_rests_makes_room_for_one_alone() -> None:
    async def scenario(connect: Connect) -> None:
        resting, writer = await connect()
        writer.write(GET)
        await resting.readuntil(b'{"status":"ok"}')
        newcomers = await asyncio.gather(*(connect() for _ in range(5)))  # all accepted in one turn of the loop
        assert await resting.read() == b""
        refused = [await read_to_the_end(reader) for reader, _writer in newcomers[2:]]
        assert [status for status, _error in refused] == [503, 503, 503]

    run(scenario, patient(max_connections=2))


def test_one_too_many_is_told_so_when_all_are_at_work() -> None:
    async def scenario(connect: Connect) -> None:
        _reader, writer = await connect()
        writer.write(HEAD % len(BODY) + BODY)
        await engine.submitted.wait()
        reader, _writer = await connect()
        status, error = await read_to_the_end(reader)
        assert (status, error["type"]) == (503, "unavailable_error")

    engine = ScriptedEngine(is_held=True)
    run(scenario, patient(max_connections=1), engine)


HUGE = 64 * 1024 * 1024  # more than the system keeps for a client that doesn't read


async def huge(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `/huge` with many bytes, anything else with few."""
    body = bytes(HUGE) if scope["path"] == "/huge" else b"few"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


class Unread:
    """A client of `huge` that reads nothing by itself; `lost` is set when the server lets go of any connection."""

    def __init__(self, **patience: float) -> None:
        self.lost, self.stalled = asyncio.Event(), asyncio.Event()
        self.connections: list[Connection] = []
        watch = self

        class Watched(Connection):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                watch.connections.append(self)
                super().connection_made(transport)

            def pause_writing(self) -> None:
                super().pause_writing()
                watch.stalled.set()

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                watch.lost.set()

        Watched.patience = Patience(**patience)  # type: ignore[arg-type]
        self._kind = Watched

    @contextlib.asynccontextmanager
    async def listening(self, app: ASGIApp = huge) -> AsyncIterator[int]:
        async with listening(app, http=self._kind) as address:  # type: ignore[arg-type]
            yield int(address.rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def asking(self, port: int, sent: bytes) -> AsyncIterator[socket.socket]:
        """Send a request and wait until its answer waits for the client."""
        self.stalled.clear()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, sent)
            await self.stalled.wait()
            yield client


@pytest.mark.parametrize(
    "sent",
    [get("/huge"), get("/huge", "connection: close"), get("/huge") * 400, get("/") + get("/huge") + get("/")],
    ids=["kept alive", "closed when taken", "many at once", "between small ones"],
)
def test_who_takes_nothing_of_an_answer_is_sent_away(sent: bytes) -> None:
    async def scenario() -> None:
        client = Unread(taking_seconds=SOON, grace_seconds=SOON)
        async with client.listening() as port, client.asking(port, sent):
            await client.lost.wait()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_who_takes_an_answer_slowly_is_kept_until_nothing_more_is_taken() -> None:
    async def scenario() -> None:
        client = Unread(taking_seconds=0, grace_seconds=NEVER)  # the test looks, not the clock
        async with client.listening() as port, client.asking(port, get("/huge")) as taking:
            [connection] = client.connections
            for _ in range(3):
                before = connection.num_unread
                while connection.num_unread == before:
                    await asyncio.get_running_loop().sock_recv(taking, 1024 * 1024)
                connection._on_unread_time()
                assert not connection.transport.is_closing()
            while not connection.transport.is_closing():  # the system may still take some of it
                await asyncio.sleep(0)
                connection._on_unread_time()
            await client.lost.wait()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_one_who_has_taken_all_is_never_looked_for_again() -> None:
    async def scenario() -> None:
        client = Unread(taking_seconds=NEVER, grace_seconds=NEVER)
        async with client.listening() as port, client.asking(port, get("/huge")) as taking:
            [connection] = client.connections
            while connection.flow.write_paused:
                await asyncio.get_running_loop().sock_recv(taking, 1024 * 1024)
            assert connection._unread_timer is None

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_those_who_take_nothing_make_room_the_longest_first() -> None:
    async def scenario() -> None:
        client = Unread(max_connections=2, grace_seconds=0)
        async with client.listening() as port, client.asking(port, get("/huge")), client.asking(port, get("/huge")):
            first, second = client.connections
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/"))
            assert b"200 OK" in await reader.readline()
            assert (first.is_open, second.is_open) == (False, True)
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_one_whose_answer_is_still_to_be_taken_is_no_longer_at_rest() -> None:
    async def scenario() -> None:
        client = Unread(max_connections=2, grace_seconds=NEVER)
        async with client.listening() as port, client.asking(port, get("/huge")):
            resting, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/"))
            await resting.readuntil(b"few")
            reader, third = await asyncio.open_connection("127.0.0.1", port)
            assert await resting.read() == b""
            third.write(get("/"))
            assert b"200 OK" in await reader.readline()
            assert client.connections[0].is_open
            third.close()
            writer.close()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


@pytest.mark.parametrize("sent", [b"", b"G", HEAD % 5 + b"x"], ids=["nothing", "a byte", "half a body"])
def test_a_request_that_does_not_come_makes_room(sent: bytes) -> None:
    async def scenario(connect: Connect) -> None:
        asking, writer = await connect()
        writer.write(sent)
        reader, new_writer = await connect()
        status, _error = await read_to_the_end(asking)
        assert status == 503
        new_writer.write(GET)
        assert b"200 OK" in await reader.readline()

    run(scenario, patient(max_connections=1, grace_seconds=0, head_seconds=NEVER, body_seconds=NEVER))


def test_answers_nobody_takes_do_not_fill_the_memory() -> None:
    async def scenario() -> None:
        patience = {"taking_seconds": NEVER, "crowded_seconds": SOON, "grace_seconds": SOON}
        client = Unread(**patience, max_unread_bytes=HUGE, max_connections=32)
        async with client.listening() as port, client.asking(port, get("/huge")), client.asking(port, get("/huge")):
            await client.lost.wait()

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_one_answer_that_nobody_takes_yet_may_be_large() -> None:
    async def scenario() -> None:
        client = Unread(taking_seconds=0, grace_seconds=NEVER, max_unread_bytes=HUGE, max_connections=32)
        async with client.listening() as port, client.asking(port, get("/huge")):
            [connection] = client.connections
            assert connection.num_unread > connection.patience.num_small_bytes
            assert not connection._is_one_too_large(connection.num_unread)

    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


def test_requests_behind_one_that_is_computed_are_bounded() -> None:
    async def scenario(connect: Connect) -> None:
        _reader, writer = await connect()
        writer.write(HEAD % len(BODY) + BODY)
        await engine.submitted.wait()
        writer.write(GET * 100)
        await engine.cancelled.wait()  # the client was sent away

    engine = ScriptedEngine(is_held=True)
    run(scenario, patient(max_pipelined_bytes=1000), engine)


def test_the_program_listens_with_patience() -> None:
    from runtime.server.door.listener import Listener

    listener = Listener(make_app(ScriptedEngine()), verbose=False)
    assert isinstance(listener, uvicorn.Server)
    assert listener.config.http is Connection


CHUNKED = b"POST /completion HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("size", "num_chunks"), [(1, 5000), (100, 5000)])
def test_a_body_in_very_many_small_chunks_is_refused(size: int, num_chunks: int) -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(CHUNKED + (b"%x\r\n" % size + b" " * size + b"\r\n") * num_chunks)
        status, error = await read_to_the_end(reader)
        assert status == 400
        assert "too many small chunks" in str(error["message"])

    run(scenario, Connection)


@pytest.mark.parametrize(("size", "num_chunks"), [(1, 1500), (300, 5000)], ids=["few", "not small"])
def test_other_chunks_are_read_and_each_request_counts_its_own(size: int, num_chunks: int) -> None:
    async def scenario(connect: Connect) -> None:
        reader, writer = await connect()
        for _ in range(2):
            body = [BODY, *([b" " * size] * num_chunks)]
            writer.write(CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in body) + b"0\r\n\r\n")
            assert b"200 OK" in await reader.readline()
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split()[1]))

    run(scenario, Connection)
