"""Ollama's and Anthropic's dialects under requests that nobody would send, over HTTP and with a real model behind them.

Never a 500, never a hang, always the dialect's error shape, and a good request is answered as before. `-m fuzz` sends
5,000 to each, the default run a few hundred.
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
    TOOLS,
    Request,
    Target,
    a_few,
    a_target,
    hold,
    joined,
    requests,
    some,
)


@pytest.fixture(scope="module")
def target(stories260k: Path) -> Iterator[Target]:
    with a_target(stories260k, default_max_tokens=8) as target:
        yield target


TOOL_NAMES = st.sampled_from(["a", "get_b", "ü"])
OLLAMA_TOOLS = st.lists(
    st.builds(lambda name, schema: {"function": {"name": name, "parameters": schema}}, TOOL_NAMES, SCHEMAS), max_size=2
)
ANTHROPIC_TOOLS = st.lists(st.builds(lambda name, schema: {"name": name, "input_schema": schema}, TOOL_NAMES, SCHEMAS))


# -- Ollama -----------------------------------------------------------------------------------------------------------

OPTIONS = a_few(
    {
        **SAMPLING,
        "num_predict": st.integers(-2, 6) | SCALARS,
        "num_keep": SCALARS,
        "num_ctx": SCALARS,
        "stop": TEXTS | st.lists(TEXTS, max_size=2) | ANYTHING,
        "repeat_penalty": SCALARS,
    }
)
OLLAMA_FIELDS = {
    "model": NAMES,
    "stream": FLAGS,
    "options": OPTIONS | ANYTHING,
    "format": SCHEMAS | st.sampled_from(["json", "", "xml"]) | ANYTHING,
    "keep_alive": st.sampled_from(["5m", "-1s", "0", "1h30m", "soon"]) | SCALARS,
    "think": FLAGS | st.sampled_from(["low", "high"]),
    "logprobs": FLAGS,
    "top_logprobs": st.integers(0, 20) | SCALARS,
    "images": st.lists(TEXTS, max_size=1) | ANYTHING,
    "tools": TOOLS | OLLAMA_TOOLS,
    "truncate": FLAGS,
    "dimensions": st.integers(1, 64) | SCALARS,
    "raw": FLAGS,
    "system": TEXTS | ANYTHING,
    "suffix": TEXTS | ANYTHING,
    "template": TEXTS | ANYTHING,
    "context": st.lists(st.integers(0, 511) | SCALARS, max_size=5) | ANYTHING,
}
OLLAMA_MESSAGES = (
    st.lists(
        some(
            role=st.sampled_from(["user", "assistant", "system", "tool", "x"]),
            content=TEXTS | ANYTHING,
            thinking=TEXTS | ANYTHING,
            images=ANYTHING,
            tool_calls=ANYTHING
            | st.lists(some(function=some(name=TEXTS, arguments=ANYTHING), id=TEXTS | ANYTHING), max_size=2),
            tool_name=TEXTS | ANYTHING,
        )
        | ANYTHING,
        max_size=3,
    )
    | ANYTHING
)
LIMITED = st.just({"options": {"num_predict": 4}})
OLLAMA_BODIES = {
    "/api/generate": joined(LIMITED, some(prompt=TEXTS | ANYTHING), a_few(OLLAMA_FIELDS)),
    "/api/chat": joined(LIMITED, some(messages=OLLAMA_MESSAGES), a_few(OLLAMA_FIELDS)),
    "/api/embed": joined(some(input=TEXTS | st.lists(TEXTS, max_size=3) | ANYTHING), a_few(OLLAMA_FIELDS)),
    "/api/embeddings": joined(some(prompt=TEXTS | ANYTHING), a_few(OLLAMA_FIELDS)),
    "/api/show": some(model=NAMES, name=NAMES, verbose=FLAGS),
    "/api/pull": some(model=NAMES, name=NAMES, stream=FLAGS, insecure=FLAGS),
    "/api/delete": some(model=NAMES),
    "/api/copy": some(source=NAMES, destination=NAMES),
    "/api/blobs/sha256:x": ANYTHING,
    "/api/tags": ANYTHING,
    "/api/nothing": ANYTHING,
}


def check_ollama_error(error: Any) -> None:
    assert list(error) == ["error"]
    assert isinstance(error["error"], str)
    assert error["error"]
    assert "\n" not in error["error"]


def check_ollama_stream(text: str) -> None:
    objects = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert not [each for each in objects if "error" in each], objects
    assert "done" not in objects[-1] or objects[-1]["done"]


def ask_ollama_well(client: httpx.Client) -> None:
    body = {"prompt": "Once upon a time", "raw": True, "stream": False, "options": {"num_predict": 4, "temperature": 0}}
    answer = client.post("/api/generate", json=body).json()
    assert (answer["response"], answer["eval_count"]) == (", there was a", 4), answer


# -- Anthropic --------------------------------------------------------------------------------------------------------

BLOCKS = (
    some(
        type=st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "thinking", "search_result", "x"])
        | ANYTHING,
        text=TEXTS | ANYTHING,
        thinking=TEXTS | ANYTHING,
        id=TEXTS | ANYTHING,
        tool_use_id=TEXTS | ANYTHING,
        name=TEXTS | ANYTHING,
        input=ANYTHING,
        content=TEXTS | ANYTHING,
        title=TEXTS | ANYTHING,
        source=TEXTS
        | some(type=st.sampled_from(["text", "content", "base64"]), data=TEXTS, content=ANYTHING)
        | ANYTHING,
    )
    | ANYTHING
)
CONTENTS = TEXTS | st.lists(BLOCKS, max_size=2) | ANYTHING
MESSAGES = (
    st.lists(some(role=st.sampled_from(["user", "assistant", "system", "x"]), content=CONTENTS) | ANYTHING, max_size=3)
    | st.just([{"role": "user", "content": "Hi"}])
    | ANYTHING
)
ANTHROPIC_FIELDS = {
    **SAMPLING,
    "model": NAMES,
    "max_tokens": st.integers(0, 6) | SCALARS,
    "system": CONTENTS,
    "stream": FLAGS,
    "stop_sequences": st.lists(TEXTS, max_size=2) | ANYTHING,
    "tools": TOOLS | ANTHROPIC_TOOLS,
    "tool_choice": some(
        type=st.sampled_from(["auto", "any", "tool", "none", "x"]),
        name=TOOL_NAMES | TEXTS,
        disable_parallel_tool_use=FLAGS,
    )
    | ANYTHING,
    "thread": some(type=st.just("create")) | ANYTHING,
    "thinking": some(type=st.sampled_from(["enabled", "disabled", "adaptive", "x"]), budget_tokens=SCALARS) | ANYTHING,
    "output_config": some(format=some(type=st.just("json_schema"), schema=SCHEMAS), effort=SCALARS) | ANYTHING,
    "metadata": ANYTHING,
    "container": SCALARS,
}
ANTHROPIC_BODIES = {
    "/v1/messages": joined(st.just({"max_tokens": 4}), some(messages=MESSAGES), a_few(ANTHROPIC_FIELDS)),
    "/v1/messages/count_tokens": joined(some(messages=MESSAGES), a_few(ANTHROPIC_FIELDS)),
    "/v1/messages/nothing": ANYTHING,
}


def check_anthropic_error(error: Any) -> None:
    assert (error["type"], set(error["error"]) - {"details"}) == ("error", {"type", "message"})
    assert error["error"]["message"]
    assert "\n" not in error["error"]["message"]


def check_anthropic_stream(text: str) -> None:
    names = [frame.split("\n")[0] for frame in text.removesuffix("\n\n").split("\n\n")]
    assert (names[0], names[-1]) == ("event: message_start", "event: message_stop"), text


def ask_anthropic_well(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
    answer = client.post("/v1/messages", json=body).json()
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 4), answer


# -- both -------------------------------------------------------------------------------------------------------------


def hold_ollama(target: Target, request: Request) -> None:
    hold(target, request, check_ollama_error, check_ollama_stream, ask_ollama_well)


def hold_anthropic(target: Target, request: Request) -> None:
    hold(target, request, check_anthropic_error, check_anthropic_stream, ask_anthropic_well)


@FEW
@given(request=requests(OLLAMA_BODIES))
def test_no_request_breaks_ollamas_dialect(target: Target, request: Request) -> None:
    hold_ollama(target, request)


@FEW
@given(request=requests(ANTHROPIC_BODIES))
def test_no_request_breaks_anthropics_dialect(target: Target, request: Request) -> None:
    hold_anthropic(target, request)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@MANY
@given(request=requests(OLLAMA_BODIES))
def test_five_thousand_requests_do_not_break_ollamas_either(target: Target, request: Request) -> None:
    hold_ollama(target, request)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@MANY
@given(request=requests(ANTHROPIC_BODIES))
def test_five_thousand_requests_do_not_break_anthropics_either(target: Target, request: Request) -> None:
    hold_anthropic(target, request)
