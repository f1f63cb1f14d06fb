"""Large bodies beside others: who else is on the event loop has turns while they are parsed, read and tokenized."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runtime.checked import JsonObject
from runtime.server.asking.body import Body
from runtime.server.asking.parsing import parse_object
from tests.fakes import ScriptedEngine
from tests.serving import TIMEOUT_SECONDS, make_app

LARGE = "x" * 200_000


def posted(path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> httpx.Response:
    """Ask with a body whose parsing goes on until others have had a hundred turns, and return the answer."""
    had_turns = threading.Event()

    def parse(data: bytearray) -> dict[str, Any]:
        assert threading.current_thread() is not threading.main_thread(), "the loop's thread parses a large body"
        assert had_turns.wait(TIMEOUT_SECONDS)
        return parse_object(data)

    monkeypatch.setattr("runtime.server.asking.body.parse_object", parse)

    async def send() -> httpx.Response:
        async def others() -> None:
            for _ in range(100):
                await asyncio.sleep(0)
            had_turns.set()

        transport = httpx.ASGITransport(make_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            waiting = asyncio.create_task(others())
            response = await asyncio.wait_for(client.post(path, json=body), TIMEOUT_SECONDS)
            await waiting
            return response

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": "Hi", "unknown": LARGE}),
        ("/tokenize", {"content": "Hi", "unknown": LARGE}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "unknown": LARGE}),
        ("/v1/completions", {"prompt": "Hi", "unknown": LARGE}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "unknown": LARGE}),
        ("/v1/responses", {"input": "Hi", "unknown": LARGE}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "unknown": LARGE}),
        ("/v1/embeddings", {"input": "Hi", "unknown": LARGE}),
        ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}], "unknown": LARGE}),
        ("/api/generate", {"prompt": "Hi", "unknown": LARGE}),
        ("/api/embed", {"input": "Hi", "unknown": LARGE}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_have_their_turns_while_a_large_body_is_parsed(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    response = posted(path, body, monkeypatch, ScriptedEngine())
    assert response.status_code in (200, 501), response.text


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/completion", lambda answer: answer["error"]["code"] == 413),
        ("/v1/chat/completions", lambda answer: answer["error"]["type"] == "invalid_request_error"),
        ("/v1/messages", lambda answer: answer["type"] == "error"),
        ("/api/chat", lambda answer: "names, texts, lists and objects" in answer["error"]),
    ],
    ids=["/completion", "/v1/chat/completions", "/v1/messages", "/api/chat"],
)
def test_a_body_of_too_many_values_is_refused_in_the_dialects_shape(path: str, error: Callable[[Any], bool]) -> None:
    data = b'{"messages": [' + b"[]," * 300_000 + b"[]]}"

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(ScriptedEngine()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=data)

    response = asyncio.run(send())
    assert response.status_code == 413
    assert error(response.json())


def test_json_in_a_text_is_bounded_too() -> None:
    arguments = json.dumps({"a": [[]] * 300_000})
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}]

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(ScriptedEngine()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/chat/completions", json={"messages": messages})

    assert asyncio.run(send()).status_code == 413


@pytest.mark.parametrize(("num_bytes", "is_here"), [(1000, True), (1_000_000, False)])
def test_the_fields_of_a_large_body_are_read_on_a_thread(num_bytes: int, is_here: bool) -> None:
    def thread_of(_fields: JsonObject) -> threading.Thread:
        return threading.current_thread()

    read_on = asyncio.run(Body({}, num_bytes).read(thread_of))
    assert (read_on is threading.current_thread()) == is_here
