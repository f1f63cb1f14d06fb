"""Every field of every endpoint with each value that JSON can spell and nobody means, over HTTP and with a real model.

Never a 500, never a hang, always one line in the dialect's error shape. The default run draws some hundred of them;
`-m fuzz` sends all, which takes minutes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.server.page.history import History
from runtime.server.service import EndpointFlags
from runtime.store.store import ChatStore
from tests.fuzzing import (
    BAD_KEYS,
    BAD_NAMES,
    BAD_VALUES,
    Place,
    Request,
    Target,
    a_target,
    places,
    with_key,
    with_value,
)

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


@pytest.fixture(scope="module")
def target(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("values")
    history = History(lambda: ChatStore(folder / "tiny.chats"))
    flags = EndpointFlags(has_metrics=True, has_props=True, slot_folder=folder)
    with a_target(stories260k, default_max_tokens=2, flags=flags, history=history) as target:
        target.client.headers["x-holdall"] = "page"
        yield target
    history.close()


def declared_fields(target: Target) -> dict[str, dict[str, Any]]:
    """The fields that the description has of each endpoint, with those inside of them that it names."""
    found: dict[str, dict[str, Any]] = {}
    for path, operations in target.client.get("/openapi.json").json()["paths"].items():
        for method, described in operations.items():
            body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            found[f"{method.upper()} {path}"] = body.get("properties", {})
    return found


def fields_of(schemas: dict[str, Any]) -> Iterator[Place]:
    for name, schema in schemas.items():
        yield (name,)
        yield from ((name, inner) for inner in schema.get("properties", {}))


def all_requests(target: Target) -> list[Request]:
    """Each value at each place of each body."""
    declared = declared_fields(target)
    found: list[Request] = []
    for route, body in BODIES.items():
        method, path = route.split(" ")
        known = list(places(body))
        for place in [*known, *(each for each in fields_of(declared.get(route, {})) if each not in known)]:
            base = body if len(place) < 2 or place in known else {**body, place[0]: dict(body.get(place[0], {}))}
            found += [(method, path, with_value(base, place, spelt)) for spelt in BAD_VALUES.values()]
        found += [(method, path, spelt.encode()) for spelt in BAD_VALUES.values()]
        for place in [(), *known]:
            inner = body
            for key in place:
                inner = inner[key]
            if isinstance(inner, dict):
                found += [(method, path, with_key(body, place, spelt)) for spelt in BAD_KEYS.values()]
    for route in ADDRESSES:
        method, path = route.split(" ")
        found += [(method, path.replace("{}", name), b"{}") for name in BAD_NAMES.values()]
    return found
