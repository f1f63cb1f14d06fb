"""llama.cpp's native dialect under requests that nobody would send, over HTTP and with a real model behind it.

Never a 500, never a hang, always the dialect's error shape, and a good request is answered as before. `-m fuzz` sends
5,000 of them, the default run a few hundred.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from runtime.engine.engine import Engine
from runtime.engine.native import Library, Model
from runtime.engine.params import EngineParams
from runtime.server.completion import ANSWER_FIELDS
from runtime.server.connection import Connection
from runtime.server.fields import Field, Flag, Integer, Number
from runtime.server.service import Offer
from tests.serving import make_app, serving_from_a_thread

TIMEOUT_SECONDS = 60
NUM_REQUESTS_IN_A_BATCH = 50
# Held to elsewhere: they are compiled, which takes its time.
NOT_HERE = {"grammar", "json_schema"}
FIELDS = [declared for declared in ANSWER_FIELDS if declared.name not in NOT_HERE]


@dataclass
class Target:
    client: httpx.Client
    num_requests: int = 0


@pytest.fixture(scope="module")
def target(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    loops: list[asyncio.AbstractEventLoop] = []
    model = Model(Library(), stories260k)
    engine = Engine(model, EngineParams(n_ctx=128, num_slots=4), post=lambda call: loops[0].call_soon_threadsafe(call))
    offer = Offer(has_metrics=True, has_props=True, slot_folder=tmp_path_factory.mktemp("slots"))
    app = make_app(engine, offer=offer)  # type: ignore[arg-type]

    async def on_its_loop(scope: Scope, receive: Receive, send: Send) -> None:
        loops[:] = [asyncio.get_running_loop()]
        await app(scope, receive, send)

    with (
        serving_from_a_thread(on_its_loop, http=Connection) as url,
        httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client,
    ):
        yield Target(client)
    engine.close()
    model.close()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 600)
    | st.sampled_from([-(2**63), 2**31, 2**32 - 1, 2**64, 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
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
RAW = st.binary(max_size=40) | st.sampled_from([b"", b"null", b"[]", b"{", b"\xff", b"[" * 5000, b'{"prompt": 1e999}'])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A method, a path and a body: mostly JSON for the path, now and then anything, or a body cut in two."""
    path = draw(st.sampled_from(sorted(BODIES)))
    method = draw(st.sampled_from(["POST"] * 20 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return method, path, draw(RAW)
    body = json.dumps(draw(BODIES[path])).encode()
    return method, path, body[: draw(st.integers(0, len(body)))] if kind == 1 else body


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
    target.num_requests += 1
    if target.num_requests % NUM_REQUESTS_IN_A_BATCH == 0:
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


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_no_request_breaks_the_native_dialect(target: Target, request: tuple[str, str, bytes]) -> None:
    hold(target, request)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_five_thousand_requests_do_not_break_it_either(target: Target, request: tuple[str, str, bytes]) -> None:
    hold(target, request)
