"""Every field of every endpoint with each value that JSON can spell and nobody means.

Never a 500, never a hang, always one line in the dialect's error shape. The default run draws a thousand of them, and
some for a real model behind HTTP; `-m fuzz` sends all 70,000, which takes minutes.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from runtime.engine.values.commands import EraseSlot, ListSlots, RestoreSlot, Saved, SaveSlot
from runtime.server.page.history import History
from runtime.server.service import EndpointFlags
from runtime.store.store import ChatStore
from tests.fakes import ScriptedEngine
from tests.fuzzing import (
    BAD_KEYS,
    BAD_NAMES,
    BAD_VALUES,
    TIMEOUT_SECONDS,
    Place,
    Request,
    a_target,
    places,
    value_at,
    with_key,
    with_value,
)
from tests.serving import ask, make_app

NUM_DRAWN = 1000

TEXT = {"type": "text", "text": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": False}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "x"}'}}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [TEXT], "name": "Ann"},
    {"role": "assistant", "content": "Yes", "reasoning_content": "Hm", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "name": "f", "content": "Good"},
]
SAMPLING = {
    "samplers": ["top_k", "temperature"],
    "logit_bias": [[1, 1.5], ["a", False]],
    "dry_sequence_breakers": ["\n"],
    "lora": [],
    "stop": ["xyz"],
}
CHAT = {
    "messages": MESSAGES,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    "stream_options": {"include_usage": True},
    "logit_bias": {"5": 1},
    "chat_template_kwargs": {"enable_thinking": False, "x": [1]},
    "max_tokens": 2,
    "metadata": {"a": "b"},
}
ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}], "content": []},
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "Good"},
    {"type": "item_reference", "id": "x"},
]
RESPONSE = {
    "input": ITEMS[:4],
    "tools": [{"type": "function", **FUNCTION}],
    "tool_choice": "auto",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "metadata": {"a": "b"},
    "max_output_tokens": 2,
}
BLOCKS = [
    {"type": "text", "text": "Hi"},
    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}], "is_error": False},
    {"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}, "title": "T"},
]
ANTHROPIC = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": ""},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": "x"}},
            ],
        },
        {"role": "user", "content": BLOCKS},
    ],
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
    "metadata": {"user_id": "x"},
    "max_tokens": 2,
}
OLLAMA_CALL = {"function": {"name": "f", "arguments": {"a": "x"}}}
OLLAMA = {
    "model": "scripted",
    "messages": [
        {"role": "user", "content": "Hi", "images": []},
        {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [OLLAMA_CALL]},
        {"role": "tool", "tool_name": "f", "content": "Good"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "options": {"num_predict": 2, "stop": ["x"]},
}
MESSAGE = {
    "parent": None,
    "role": "user",
    "content": "Hi",
    "created": 1,
    "reasoning": "",
    "stats": {"n": 1.5},
    "attachments": [{"name": "a", "text": "b"}],
    "is_partial": False,
}
KEPT = {
    "title": "T",
    "created": 1,
    "updated": 2,
    "is_pinned": False,
    "settings": {"temperature": 0.5},
    "leaf": "m1",
    "messages": [{"id": "m1", **MESSAGE}],
}
COMPLETION = {"prompt": [1, "a"], "n_predict": 2, **SAMPLING}
# What is sent where; the declared fields that it lacks are added.
BODIES: dict[str, Any] = {
    "POST /completion": COMPLETION,
    "POST /infill": {
        "input_prefix": "a",
        "input_suffix": "b",
        "input_extra": [{"filename": "f", "text": "t"}],
        "prompt": "c",
        "n_predict": 2,
    },
    "POST /apply-template": CHAT,
    "POST /tokenize": {"content": "Hi"},
    "POST /detokenize": {"tokens": [1, 2]},
    "POST /props": {"a": 1},
    "POST /slots/0?action=save": {"filename": "a.bin"},
    "POST /slots/0?action=restore": {"filename": "a.bin"},
    "POST /lora-adapters": [{"id": 0, "scale": 1.5}],
    "POST /v1/chat/completions": CHAT,
    "POST /v1/chat/completions/input_tokens": CHAT,
    "POST /v1/completions": {"prompt": ["a", [1]], "max_tokens": 2, "logit_bias": {"5": 1}, "stop": "x"},
    "POST /v1/responses": RESPONSE,
    "POST /v1/responses/input_tokens": RESPONSE,
    "POST /v1/messages": ANTHROPIC,
    "POST /v1/messages/count_tokens": ANTHROPIC,
    "POST /api/chat": OLLAMA,
    "POST /api/generate": {"prompt": "Hi", "context": [1], "options": {"num_predict": 2}},
    "POST /api/embed": {"input": ["Hi"], "options": {}},
    "POST /api/embeddings": {"prompt": "Hi"},
    "POST /api/show": {"model": "scripted"},
    "POST /api/pull": {"model": "scripted"},
    "POST /api/create": {"model": "scripted"},
    "POST /api/copy": {"source": "a", "destination": "b"},
    "POST /api/push": {"model": "scripted"},
    "DELETE /api/delete": {"model": "scripted"},
    "POST /v1/embeddings": {"input": ["Hi", [1]], "dimensions": 4},
    "POST /embeddings": {"input": ["Hi", [1]]},
    "POST /embedding": {"content": "Hi"},
    "POST /rerank": {"query": "a", "documents": ["b", {"text": "c"}]},
    "PUT /chats/c1": KEPT,
    "PATCH /chats/c1": {"title": "T", "is_pinned": True, "settings": {}, "leaf": "m1"},
    "PUT /chats/c1/messages/m1": {**MESSAGE, "title": "T", "leaf": "m1", "settings": {}},
    "POST /chats/import": {"format": "holdall.chats", "version": 1, "chats": [{"id": "c2", **KEPT}]},
}
# What an address may hold in the place of a name, or behind a question mark.
ADDRESSES = [
    "GET /v1/models/{}",
    "GET /models/{}",
    "GET /v1/responses/{}",
    "GET /v1/responses/{}/input_items",
    "GET /v1/responses/x/input_items?limit={}&after={}&order={}",
    "DELETE /v1/responses/{}",
    "POST /slots/{}?action=erase",
    "POST /slots/0?action={}",
    "GET /slots?fail_on_no_slot={}",
    "POST /api/blobs/{}",
    "HEAD /api/blobs/{}",
    "GET /chats?search={}",
    "GET /chats/{}",
    "PUT /chats/{}",
    "PATCH /chats/{}",
    "DELETE /chats/{}",
    "PUT /chats/c1/messages/{}",
    "DELETE /chats/{}/messages/{}",
    "GET /props?autoload={}",
    "GET /health?x={}",
    "GET /{}",
]


Check = Callable[[Any], None]


def check_llamacpp_error(body: Any) -> None:
    assert isinstance(body["error"]["code"], int)
    assert set(body["error"]) >= {"type", "param"}


def check_openai_error(body: Any) -> None:
    assert body["error"]["code"] is None or isinstance(body["error"]["code"], str)
    assert set(body["error"]) >= {"type", "param"}


def check_anthropic_error(body: Any) -> None:
    assert body["type"] == "error"
    assert set(body["error"]) - {"details"} == {"type", "message"}


def check_ollama_error(body: Any) -> None:
    assert list(body) == ["error"]


CHECKS: Mapping[str, Check] = {
    "/v1/messages": check_anthropic_error,
    "/v1/": check_openai_error,
    "/api/": check_ollama_error,
    "/": check_llamacpp_error,
}


def declared_fields(description: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas of the fields that the description has of each endpoint."""
    found: dict[str, dict[str, Any]] = {}
    for path, operations in description["paths"].items():
        for method, described in operations.items():
            body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            found[f"{method.upper()} {path}"] = body.get("properties", {})
    return found


def places_of(schemas: Mapping[str, Any]) -> Iterator[Place]:
    for name, schema in schemas.items():
        yield (name,)
        yield from ((name, inner) for inner in schema.get("properties", {}))


def all_requests(description: Mapping[str, Any]) -> Iterator[Request]:
    """Each value in each place of each body and address, each key in each object."""
    declared = declared_fields(description)
    for route, body in BODIES.items():
        method, path = route.split(" ")
        known = list(places(body))
        for place in dict.fromkeys([*known, *places_of(declared.get(route.split("?")[0], {}))]):
            base = body if len(place) < 2 or place in known else {**body, place[0]: dict(body.get(place[0], {}))}
            yield from ((method, path, with_value(base, place, spelt)) for spelt in BAD_VALUES.values())
        yield from ((method, path, spelt.encode()) for spelt in BAD_VALUES.values())
        for place in [place for place in ((), *known) if isinstance(value_at(body, place), dict)]:
            yield from ((method, path, with_key(body, place, spelt)) for spelt in BAD_KEYS.values())
    for route in ADDRESSES:
        method, path = route.split(" ")
        yield from ((method, path.replace("{}", name), b"{}") for name in BAD_NAMES.values())


def check(request: Request, response: httpx.Response) -> None:
    """Check that an answer is one, or an error in the shape of its path's dialect."""
    method, path, _body = request
    assert response.status_code < 500 or response.status_code in (501, 503), (response.text, request)
    assert "Traceback" not in response.text
    assert '"server_error"' not in response.text, request
    if response.status_code < 400 or method == "HEAD":
        return
    body = response.json()
    next(check for prefix, check in CHECKS.items() if path.startswith(prefix))(body)
    message = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
    assert message
    assert message.isprintable(), request
    assert len(message) <= 1000, request


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("values")
    history = History(lambda: ChatStore(folder / "tiny.chats"))
    flags = EndpointFlags(has_metrics=True, has_props=True, slot_folder=folder)
    yield {"default_max_tokens": 2, "flags": flags, "history": history}
    history.close()


def send(app: Starlette, requests: Iterable[Request]) -> None:
    """Send requests one after the other, without the way through a socket."""

    async def send_all() -> None:
        transport = httpx.ASGITransport(app)
        headers = {"x-holdall": "page"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            for request in requests:
                method, path, body = request
                answer = client.request(method, path, content=body)
                check(request, await asyncio.wait_for(answer, TIMEOUT_SECONDS))

    asyncio.run(send_all())


def scripted_app(options: dict[str, Any]) -> tuple[Starlette, list[Request]]:
    """The application, and all requests for it."""
    engine = ScriptedEngine()
    engine.answers = {ListSlots: [], EraseSlot: 0, SaveSlot: Saved(0, 0), RestoreSlot: Saved(0, 0)}
    app = make_app(engine, **options)
    return app, list(all_requests(ask(app, "GET", "/openapi.json").json()))


def test_no_value_of_any_field_breaks_an_endpoint(options: dict[str, Any]) -> None:
    app, known = scripted_app(options)
    send(app, random.Random(NUM_DRAWN).sample(known, NUM_DRAWN))


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_none_of_all_the_values_breaks_an_endpoint(options: dict[str, Any]) -> None:
    app, known = scripted_app(options)
    send(app, known)


@pytest.mark.parametrize("path", ["/completion", "/v1/completions", "/v1/chat/completions", "/api/generate"])
def test_no_value_of_a_field_breaks_an_answer_of_a_model(stories260k: Path, options: dict[str, Any], path: str) -> None:
    _app, known = scripted_app(options)
    drawn = random.Random(path).sample([each for each in known if each[1] == path], NUM_DRAWN // 25)
    with a_target(stories260k, **options) as target:
        for request in drawn:
            check(request, target.client.request(request[0], path, content=request[2]))
