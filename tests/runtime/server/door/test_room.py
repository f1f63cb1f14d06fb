"""Large bodies that come at the same time."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from runtime.errors import BodiesFull
from runtime.server.door.room import BodyRoom

CHUNK = b"x" * 300_000
SCOPE = {"type": "http"}


class Client:
    """One request, whose body comes as the test sends it; the endpoint reads it and answers when told to."""

    def __init__(self, room: BodyRoom) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.read: asyncio.Queue[int] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.may_end = asyncio.Event()
        self.answered = asyncio.Event()
        self.task = asyncio.create_task(room({**SCOPE, "client": self}, self._receive, self._send))

    async def send(self, chunk: bytes) -> None:
        """Send a chunk, and wait until it is read or the request is refused."""
        self._chunks.put_nowait(chunk)
        reading = asyncio.create_task(self.read.get())
        await asyncio.wait({reading, self.task}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()

    async def answer(self) -> None:
        self.may_answer.set()
        await self.answered.wait()

    async def end(self) -> None:
        self.may_answer.set()
        self.may_end.set()
        await self.task

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": await self._chunks.get(), "more_body": True}

    async def _send(self, _message: Message) -> None:
        self.answered.set()


async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    client: Client = scope["client"]
    answering = asyncio.create_task(client.may_answer.wait())
    while not answering.done():
        reading = asyncio.create_task(receive())  # type: ignore[arg-type]
        await asyncio.wait({reading, answering}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            client.read.put_nowait(len(reading.result()["body"]))
        else:
            reading.cancel()
    await send({"type": "http.response.start"})
    await client.may_end.wait()


def test_what_does_not_fit_beside_others_is_refused_until_an_answer_begins() -> None:
    async def scenario() -> None:
        room = BodyRoom(endpoint, max_bytes=100_000)
        first, second, third = (Client(room) for _ in range(3))
        await first.send(CHUNK)
        await second.send(CHUNK)
        assert not second.task.done()  # both are over what is free by 38,000 bytes
        await third.send(CHUNK)
        with pytest.raises(BodiesFull, match="try again in"):
            await third.task
        await first.answer()
        fourth = Client(room)
        await fourth.send(CHUNK)
        assert not fourth.task.done()
        for client in (first, second, fourth):
            await client.end()
        last = Client(room)  # nothing is left held
        await last.send(CHUNK)
        await last.send(CHUNK)
        assert not last.task.done()
        await last.end()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_small_bodies_and_one_alone_always_have_room() -> None:
    async def scenario() -> None:
        room = BodyRoom(endpoint, max_bytes=100_000)
        alone = Client(room)
        for _ in range(5):
            await alone.send(CHUNK)
        small = [Client(room) for _ in range(20)]
        for client in small:
            await client.send(b"x" * 200_000)
        assert not any(client.task.done() for client in (alone, *small))
        for client in (alone, *small):
            await client.end()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_client_that_leaves_gives_its_room_back() -> None:
    async def scenario() -> None:
        room = BodyRoom(endpoint, max_bytes=100_000)
        gone = Client(room)
        await gone.send(CHUNK)
        await gone.send(CHUNK)
        gone.task.cancel()
        await asyncio.gather(gone.task, return_exceptions=True)
        first, second = Client(room), Client(room)
        await first.send(CHUNK)
        await second.send(CHUNK)
        assert not second.task.done()
        for client in (first, second):
            await client.end()

    asyncio.run(asyncio.wait_for(scenario(), 10))
