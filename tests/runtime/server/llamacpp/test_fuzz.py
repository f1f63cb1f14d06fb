"""llama.cpp's native dialect under requests that nobody would send, over HTTP and with a real model behind it.

Never a 500, never a hang, always the dialect's error shape, and a good request is answered as before. `-m fuzz` sends
5,000 of them, the default run a few hundred.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.server.asking.fields import Field, Flag, Integer, Number
from runtime.server.llamacpp.completion import ANSWER_FIELDS
from runtime.server.service import EndpointFlags
from tests.fuzzing import ANYTHING, SCALARS, Target, a_target, requests

# Held to elsewhere: they are compiled, which takes its time.
NOT_HERE = {"grammar", "json_schema"}
FIELDS = [declared for declared in ANSWER_FIELDS if declared.name not in NOT_HERE]


@pytest.fixture(scope="module")
def target(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    flags = EndpointFlags(has_metrics=True, has_props=True, slot_folder=tmp_path_factory.mktemp("slots"))
    with a_target(stories260k, flags=flags) as target:
        yield target


TOKENS = st.lists(st.integers(0, 511) | st.integers(-2, 520), max_size=20)
PROMPTS = (
    st.text(max_size=60)
    | TOKENS
    | st.lists(
        st.text(max_size=10) | TOKENS | st.fixed_dictionaries({"prompt_string": st.text(max_size=9)}), max_size=4
    )
    | ANYTHING
)


def near(declared: Field) -> st.SearchStrategy[Any]:
    """Values that a field takes, values at the edges of what it takes, and others."""
    if declared.name == "n_cmpl":
        return st.integers(-1, 3) | st.sampled_from([257, 10**9, 1.5, "2"])
    if isinstance(declared, Flag):
        return st.booleans() | SCALARS
    if isinstance(declared, Integer | Number):
        described = declared.schema()
        edges = [described[bound] + by for bound in ("minimum", "maximum") if bound in described for by in (-1, 0, 1)]
        return st.integers(-2, 50) | st.floats(-1, 2) | (st.sampled_from(edges) if edges else SCALARS) | SCALARS
    return st.text("abc \n", max_size=4) | st.lists(st.text(max_size=4), max_size=3) | ANYTHING


ANSWERS = st.fixed_dictionaries({}, optional={declared.name: near(declared) for declared in FIELDS})
FEW_ANSWERS = st.lists(st.sampled_from(FIELDS), max_size=5, unique_by=lambda each: each.name).flatmap(
    lambda chosen: st.fixed_dictionaries({each.name: near(each) for each in chosen})
)


def mixed(first: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.fixed_dictionaries({}, optional=first), FEW_ANSWERS).map(lambda pair: {**pair[0], **pair[1]})


TEXTS = st.text(max_size=20) | ANYTHING
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "/completion": mixed({"prompt": PROMPTS})
    | st.fixed_dictionaries({"prompt": st.just("Hi")}).flatmap(
        lambda body: ANSWERS.map(lambda answers: {**body, **answers})
    ),
    "/completions": mixed({"prompt": PROMPTS}),
    "/infill": mixed({"input_prefix": TEXTS, "input_suffix": TEXTS, "input_extra": ANYTHING, "prompt": TEXTS}),
    "/tokenize": st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("content", "add_special", "parse_special", "with_pieces"), TEXTS)
    ),
    "/detokenize": st.fixed_dictionaries({}, optional={"tokens": TOKENS | ANYTHING}),
    "/apply-template": st.fixed_dictionaries(
        {},
        optional={
            "messages": ANYTHING
            | st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "x"]), "content": TEXTS}), max_size=3)
        },
    ),
    "/props": ANYTHING,
    "/slots/0?action=save": st.fixed_dictionaries({}, optional={"filename": st.text(max_size=12) | ANYTHING}),
    "/slots/1?action=restore": st.fixed_dictionaries({}, optional={"filename": st.text(max_size=12) | ANYTHING}),
    "/slots/2?action=erase": ANYTHING,
    "/slots/9?action=erase": ANYTHING,
    "/slots/0?action=x": ANYTHING,
}


def hold(target: Target, request: tuple[str, str, bytes]) -> None:
    """Send a request and check the answer's shape; now and then a good one after it."""
    method, path, body = request
    response = target.client.request(method, path, content=body)
    assert response.status_code in (200, 400, 404, 405, 413, 501), (response.status_code, response.text)
    if response.status_code != 200:
        check_error(response)
    elif response.headers["content-type"].startswith("text/event-stream"):
        check_stream(response.text)
    elif method != "HEAD":
        response.json()
    if target.is_batch_over():
        check_a_good_request(target.client)


def check_error(response: httpx.Response) -> None:
    if response.request.method == "HEAD":
        return
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert (error["code"], bool(error["message"])) == (response.status_code, True)
    assert "\n" not in error["message"]
    assert "/tmp" not in error["message"] or "/tmp" in response.request.content.decode("utf-8", "replace")


def check_stream(text: str) -> None:
    """Only `data:` events with content (unless other fields were asked for), and each answer ends, with no fault."""
    events = [json.loads(frame.removeprefix("data: ")) for frame in text.removesuffix("\n\n").split("\n\n")]
    assert not [event["error"] for event in events if event.get("error", {}).get("code", 400) >= 500]


def check_a_good_request(client: httpx.Client) -> None:
    body = {"prompt": "Once upon a time", "n_predict": 4, "temperature": 0, "cache_prompt": False}
    answer = client.post("/completion", json=body).json()
    assert (answer["content"], answer["tokens_predicted"]) == (", there was a", 4), answer


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(request=requests(BODIES))
def test_no_request_breaks_the_native_dialect(target: Target, request: tuple[str, str, bytes]) -> None:
    hold(target, request)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@settings(max_examples=5000, suppress_health_check=list(HealthCheck))
@given(request=requests(BODIES))
def test_five_thousand_requests_do_not_break_it_either(target: Target, request: tuple[str, str, bytes]) -> None:
    hold(target, request)
