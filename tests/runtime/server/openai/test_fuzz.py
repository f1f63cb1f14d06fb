"""OpenAI's dialect under requests that nobody would send, over HTTP and with a real model behind it.

Never a 500, never a hang, always the dialect's error shape, and a good request is answered as before. `-m fuzz` sends
5,000 to its endpoints, the default run a few hundred.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import (
    ANYTHING,
    FEW,
    FLAGS,
    MANY,
    NAMES,
    SAMPLING,
    SCALARS,
    SCHEMAS,
    TEXTS,
    Request,
    Target,
    a_few,
    a_target,
    hold,
    joined,
    requests,
    some,
)
from tests.serving import named_events_of


@pytest.fixture(scope="module")
def target(stories260k: Path) -> Iterator[Target]:
    with a_target(stories260k, default_max_tokens=8) as target:
        yield target


KINDS = st.sampled_from(["text", "json_object", "json_schema", "function", "allowed_tools", "x"])
CHOICES = (
    st.sampled_from(["none", "auto", "required", "x"])
    | st.just({"type": "function", "name": "f", "function": {"name": "f"}})
    | some(type=KINDS, name=TEXTS, function=ANYTHING, mode=TEXTS, tools=ANYTHING)
    | ANYTHING
)
FUNCTION = some(name=st.just("f") | TEXTS, description=TEXTS, parameters=SCHEMAS | ANYTHING, strict=FLAGS)
FIELDS = {
    **SAMPLING,
    "model": NAMES,
    "stream": FLAGS,
    "stream_options": some(include_usage=FLAGS) | ANYTHING,
    "stop": TEXTS | st.lists(TEXTS, max_size=2) | ANYTHING,
    "n": st.integers(0, 3) | SCALARS,
    "logit_bias": st.dictionaries(st.integers(-1, 600).map(str), SCALARS, max_size=2) | ANYTHING,
    "user": TEXTS | SCALARS,
    "options": SCALARS | ANYTHING,
    "presence_penalty": SCALARS,
}
CHAT_FIELDS = {
    **FIELDS,
    "logprobs": FLAGS,
    "top_logprobs": st.integers(0, 21) | SCALARS,
    "response_format": some(type=KINDS, json_schema=some(schema=SCHEMAS, name=TEXTS), schema=SCHEMAS) | ANYTHING,
    "tools": st.lists(some(type=KINDS, function=FUNCTION), max_size=2) | ANYTHING,
    "tool_choice": CHOICES,
    "parallel_tool_calls": FLAGS,
    "functions": st.lists(FUNCTION, max_size=2) | ANYTHING,
    "function_call": TEXTS | ANYTHING,
    "reasoning_effort": TEXTS | SCALARS,
    "reasoning_format": TEXTS | SCALARS,
    "chat_template_kwargs": ANYTHING,
    "modalities": ANYTHING,
}
COMPLETION_FIELDS = {
    **FIELDS,
    "logprobs": st.integers(0, 6) | SCALARS,
    "echo": FLAGS,
    "suffix": TEXTS | ANYTHING,
    "best_of": st.integers(0, 4) | SCALARS,
    "max_tokens": st.integers(0, 4),
}
RESPONSE_FIELDS = {
    **SAMPLING,
    "model": NAMES,
    "stream": FLAGS,
    "instructions": TEXTS | ANYTHING,
    "previous_response_id": TEXTS | SCALARS,
    "text": some(format=some(type=KINDS, schema=SCHEMAS, name=TEXTS) | ANYTHING, verbosity=TEXTS) | ANYTHING,
    "tools": st.lists(joined(st.just({"type": "function"}), FUNCTION) | some(type=KINDS), max_size=2) | ANYTHING,
    "tool_choice": CHOICES,
    "parallel_tool_calls": FLAGS,
    "reasoning": some(effort=TEXTS | SCALARS, summary=TEXTS) | ANYTHING,
    "include": st.lists(TEXTS | st.just("message.output_text.logprobs"), max_size=2) | ANYTHING,
    "top_logprobs": st.integers(0, 21) | SCALARS,
    "store": FLAGS,
    "metadata": st.dictionaries(TEXTS, TEXTS, max_size=2) | ANYTHING,
    "background": FLAGS,
    "return_progress": FLAGS,
    "timings_per_token": FLAGS,
    "max_tool_calls": SCALARS,
}
PARTS = some(type=st.sampled_from(["text", "input_text", "output_text", "refusal", "image_url", "x"]), text=TEXTS)
CONTENTS = TEXTS | st.lists(PARTS | ANYTHING, max_size=2) | ANYTHING
CALLS = st.lists(some(id=TEXTS, function=some(name=TEXTS, arguments=ANYTHING | st.just("{}"))), max_size=2) | ANYTHING
ROLES = st.sampled_from(["user", "assistant", "system", "developer", "tool", "x"])
MESSAGES = (
    st.lists(some(role=ROLES, content=CONTENTS, tool_calls=CALLS, tool_call_id=TEXTS) | ANYTHING, max_size=3)
    | st.just([{"role": "user", "content": "Hi"}])
    | ANYTHING
)
ITEM_KINDS = ["message", "reasoning", "function_call", "function_call_output", "item_reference", "x"]
ITEMS = some(
    type=st.sampled_from(ITEM_KINDS) | ANYTHING,
    id=TEXTS | ANYTHING,
    role=ROLES | ANYTHING,
    content=CONTENTS,
    summary=CONTENTS,
    call_id=TEXTS | ANYTHING,
    name=TEXTS,
    arguments=TEXTS | st.just("{}"),
    output=CONTENTS,
)
INPUTS = TEXTS | st.lists(ITEMS | st.just({"role": "user", "content": "Hi"}), max_size=3) | ANYTHING
TOKENS = st.lists(st.integers(-1, 520), max_size=5)
PROMPTS = TEXTS | TOKENS | st.lists(TEXTS | TOKENS, max_size=3) | ANYTHING
BODIES = {
    "/v1/chat/completions": joined(st.just({"max_tokens": 4}), some(messages=MESSAGES), a_few(CHAT_FIELDS)),
    "/v1/completions": joined(st.just({"max_tokens": 4}), some(prompt=PROMPTS), a_few(COMPLETION_FIELDS)),
    "/v1/responses": joined(st.just({"max_output_tokens": 4}), some(input=INPUTS), a_few(RESPONSE_FIELDS)),
    "/v1/responses/input_tokens": joined(some(input=INPUTS), a_few(RESPONSE_FIELDS)),
    "/v1/responses/resp_none": ANYTHING,
    "/v1/embeddings": some(
        input=PROMPTS, encoding_format=TEXTS | st.just("base64"), dimensions=st.integers(-1, 70), model=NAMES
    ),
    "/v1/models/other": ANYTHING,
    "/v1/nothing": ANYTHING,
}


def check_error(body: Any) -> None:
    error = body["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert error["code"] is None or isinstance(error["code"], str)
    assert error["message"]
    assert "\n" not in error["message"]


def check_stream(text: str) -> None:
    """What ends a stream is its last event, or an error that the request brought about."""
    events = named_events_of(text)
    if events[-1] == (None, "[DONE]"):
        events.pop()
    told = [json.loads(data) for _name, data in events]
    errors = [event["error"] for event in told if event.get("error")]
    assert not [error for error in errors if error["type"] == "server_error"], errors
    if events[0][0]:
        assert told[-1]["type"] in ("response.completed", "response.incomplete"), told[-1]


def ask_well(client: httpx.Client) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
    answer = client.post("/v1/completions", json=body).json()
    assert answer["choices"][0]["text"] == ", there was a", answer
    body = {"input": "Hi", "max_output_tokens": 4, "temperature": 0}
    response = client.post("/v1/responses", json=body).json()
    assert response["usage"]["output_tokens"] == 4, response


@FEW
@given(request=requests(BODIES))
def test_no_request_breaks_openais_dialect(target: Target, request: Request) -> None:
    hold(target, request, check_error, check_stream, ask_well)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@MANY
@given(request=requests(BODIES))
def test_five_thousand_requests_do_not_break_it_either(target: Target, request: Request) -> None:
    hold(target, request, check_error, check_stream, ask_well)
