"""Streams over a real connection: what one write brings, and what happens when the client goes."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from runtime.engine.values.events import TextDelta
from runtime.engine.values.request import GenerationRequest
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import Unavailable
from runtime.nursery import Patience
from runtime.server.answering import generation
from runtime.server.answering.generation import Generation
from tests.asking import request_for
from tests.fakes import ScriptedEngine
from tests.serving import TIMEOUT_SECONDS, listening, make_app

NO_REQUEST = Request({"type": "http"})  # nothing has to be prepared, so nobody asks for it
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_SECONDS))


async def post(address: str, path: str, body: dict[str, Any]) -> Streams:
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return reader, writer


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


def test_each_event_is_one_chunk_and_comes_when_it_happens() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one", "two"], is_held=True)
        async with listening(make_app(engine)) as address:
            reader, writer = await post(address, "/completion", {"prompt": "Hi", "stream": True})
            head = await reader.readuntil(b"\r\n\r\n")  # before the first token
            assert b"200 OK" in head
            for content in ("one", "two", ""):
                engine.step()
                chunk = await read_chunk(reader)
                assert chunk.startswith(b"data: ")
                assert json.loads(chunk[6:])["content"] == content
                assert chunk.count(b"\n\n") == 1
            assert await read_chunk(reader) == b""
            writer.close()

    run(scenario)


@pytest.mark.parametrize("path", ["/completion", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("num_steps", [0, 1])
def test_a_client_that_hangs_up_frees_its_slot_at_once(path: str, stream: bool, num_steps: int) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one", "two"], is_held=True)
        async with listening(make_app(engine)) as address:
            body = {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
            _reader, writer = await post(address, path, body)
            await engine.submitted.wait()
            for _ in range(num_steps):
                engine.step()
            writer.close()
            await engine.cancelled.wait()  # no step is needed for it
            assert engine.num_processing == 0

    run(scenario)


def test_a_complete_answer_is_not_cancelled() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one"])
        async with listening(make_app(engine)) as address:
            reader, writer = await post(address, "/completion", {"prompt": "Hi"})
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        assert not engine.cancelled.is_set()

    run(scenario)


def test_streams_run_side_by_side() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one", "two"], is_held=True)
        async with listening(make_app(engine)) as address:
            clients = [await post(address, "/completion", {"prompt": "Hi", "stream": True}) for _ in range(8)]
            heads = [await reader.readuntil(b"\r\n\r\n") for reader, _writer in clients]
            assert all(b"200 OK" in head for head in heads)
            for content in ("one", "two", ""):
                engine.step()
                for reader, _writer in clients:
                    assert json.loads((await read_chunk(reader))[6:])["content"] == content
            for _reader, writer in clients:
                writer.close()

    run(scenario)


def test_others_are_served_while_a_grammar_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one"])
        other_was_answered = threading.Event()

        def prepare(_sampling: object, patience: Patience) -> None:
            patience.check()
            other_was_answered.wait(TIMEOUT_SECONDS)

        monkeypatch.setattr(engine, "prepare", prepare)
        async with listening(make_app(engine)) as address:
            slow, slow_writer = await post(address, "/completion", {"prompt": "Hi", "grammar": "x"})
            other, other_writer = await post(address, "/completion", {"prompt": "Hi"})
            assert b"200 OK" in await other.readuntil(b"\r\n\r\n")
            assert len(engine.requests) == 1
            other_was_answered.set()
            assert b"200 OK" in await slow.readuntil(b"\r\n\r\n")
            slow_writer.close()
            other_writer.close()

    run(scenario)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
THAT_COMPILE = [
    ("/completion", {"prompt": "Hi", "grammar": "x"}),
    ("/v1/completions", {"prompt": "Hi", "json_schema": {}}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]}),
    ("/v1/responses", {"input": "Hi", "tools": [{**TOOL["function"], "type": "function"}]}),
    (
        "/v1/messages",
        {
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        },
    ),
    ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]}),
    ("/api/generate", {"prompt": "Hi", "format": "json"}),
]


@pytest.mark.parametrize(("path", "body"), THAT_COMPILE, ids=[path for path, _body in THAT_COMPILE])
def test_any_number_may_wait_for_grammars_and_others_do_not_wait(
    monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, object]
) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one"])
        others_were_answered = threading.Event()
        compiling: list[Patience] = []

        def compile_(*_: object, patience: Patience) -> None:
            patience.check()
            compiling.append(patience)
            others_were_answered.wait(TIMEOUT_SECONDS)

        monkeypatch.setattr(engine, "prepare", compile_)
        monkeypatch.setattr(engine, "compile", compile_)
        async with listening(make_app(engine)) as address:
            slow = [await post(address, path, body) for _ in range(40)]
            for other in ("/tokenize", "/v1/chat/completions"):
                reader, writer = await post(
                    address, other, {"content": "a", "messages": [{"role": "user", "content": ""}]}
                )
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                writer.close()
            assert compiling
            assert not any(patience.has_left for patience in compiling)
            others_were_answered.set()
            for reader, writer in slow:
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                writer.close()

    run(scenario)


def asking(num_probs: int) -> GenerationRequest:
    return request_for([1], sampling=SamplingParams(n_probs=num_probs))


def test_answers_that_nobody_reads_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_MAX_UNREAD", 30_000)

    async def scenario() -> None:
        engine = ScriptedEngine(["x"] * 40, is_held=True)
        unread, large, read = await Generation.begin_all(NO_REQUEST, engine, [asking(100), asking(1000), asking(1000)])
        with unread, large, read:
            reading = aiter(read)
            for _ in range(40):
                engine.step()
                assert isinstance(await anext(reading), TextDelta)  # who reads is served, however much it asks for
                assert sum(Generation._num_unread.values()) <= 30_000
            assert engine.num_processing == 2
            with pytest.raises(Unavailable, match="too slowly"):
                await anext(aiter(large))
            assert len([await anext(later) for later in [aiter(unread)] * 40]) == 40  # it was less behind
        assert not Generation._num_unread

    run(scenario)


def test_grammars_that_take_long_make_way_for_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one"])
        quick_was_answered = threading.Event()

        def prepare(sampling: SamplingParams, patience: Patience) -> None:
            assert sampling.grammar is not None
            patience.check()
            if sampling.grammar.source == "long":
                quick_was_answered.wait(min(patience.remaining(), TIMEOUT_SECONDS))
                patience.check()

        monkeypatch.setattr(engine, "prepare", prepare)
        async with listening(make_app(engine)) as address:
            long = [await post(address, "/completion", {"prompt": "Hi", "grammar": "long"}) for _ in range(6)]
            reader, writer = await post(address, "/completion", {"prompt": "Hi", "grammar": "quick"})
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()
            assert len(engine.requests) == 1
            quick_was_answered.set()
            for reader, writer in long:
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                writer.close()

    run(scenario)


@pytest.mark.parametrize(("path", "body"), THAT_COMPILE, ids=[path for path, _body in THAT_COMPILE])
def test_compiling_ends_when_the_client_is_gone(
    monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, object]
) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(["one"])
        loop, began, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def compile_(*_: object, patience: Patience) -> None:
            patience.check()
            left = threading.Event()
            patience.when_left(left.set)
            loop.call_soon_threadsafe(began.set)
            if left.wait(TIMEOUT_SECONDS):
                loop.call_soon_threadsafe(ended.set)
            raise Unavailable("nobody hears this")

        monkeypatch.setattr(engine, "prepare", compile_)
        monkeypatch.setattr(engine, "compile", compile_)
        async with listening(make_app(engine)) as address:
            _reader, writer = await post(address, path, body)
            await asyncio.wait_for(began.wait(), TIMEOUT_SECONDS)
            writer.close()
            await asyncio.wait_for(ended.wait(), TIMEOUT_SECONDS)
            assert not engine.requests

    run(scenario)


def test_a_stream_that_was_read_too_slowly_ends_in_its_clients_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_MAX_UNREAD", 5000)

    async def scenario() -> None:
        engine = ScriptedEngine(["x"] * 40, is_held=True)
        async with listening(make_app(engine)) as address:
            body = {"prompt": "Hi", "stream": True, "n_probs": 1000}
            reader, writer = await post(address, "/completion", body)
            await engine.submitted.wait()
            for _ in range(10):  # all before the client's task can write any
                engine.step()
            assert engine.cancelled.is_set()
            await reader.readuntil(b"\r\n\r\n")
            assert b"too slowly" in await reader.readuntil(b"0\r\n\r\n")
            writer.close()

    run(scenario)


def test_answers_that_are_wanted_whole_are_heard_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_MAX_UNREAD", 30_000)

    async def scenario() -> None:
        engine = ScriptedEngine(["x"] * 40, is_held=True)
        async with listening(make_app(engine)) as address:
            reader, writer = await post(address, "/completion", {"prompt": "Hi", "n_cmpl": 3, "n_probs": 1000})
            await engine.submitted.wait()
            for _ in range(41):
                engine.step()
                for _ in range(3):
                    await asyncio.sleep(0)  # who listens hears it
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(scenario)
