"""Requests that nobody would send, and a server with a real model to send them to."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from runtime.engine.engine import Engine
from runtime.engine.native import Library, Model
from runtime.engine.values.params import EngineParams
from runtime.server.door.connection import Connection
from tests.serving import make_app, serving_from_a_thread

TIMEOUT_SECONDS = 60
NUM_REQUESTS_IN_A_BATCH = 50
FEW = settings(max_examples=200, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=5000, suppress_health_check=list(HealthCheck))
Request = tuple[str, str, bytes]


@dataclass
class Target:
    """The server as its client sees it. A good request is due after each batch."""

    client: httpx.Client
    num_requests: int = 0

    def is_batch_over(self) -> bool:
        self.num_requests += 1
        return self.num_requests % NUM_REQUESTS_IN_A_BATCH == 0


@contextlib.contextmanager
def a_target(model_path: Path, **options: Any) -> Iterator[Target]:
    """Serve a model with a small context; `options` are the application's."""
    loops: list[asyncio.AbstractEventLoop] = []
    model = Model(Library(), model_path)
    engine = Engine(model, EngineParams(n_ctx=128, num_slots=4), post=lambda call: loops[0].call_soon_threadsafe(call))
    app = make_app(engine, **options)

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
RAW = st.binary(max_size=40) | st.sampled_from([b"", b"null", b"[]", b"{", b"\xff", b"[" * 5000, b'{"prompt": 1e999}'])


@st.composite
def requests(draw: st.DrawFn, bodies: Mapping[str, st.SearchStrategy[Any]]) -> tuple[str, str, bytes]:
    """A method, a path and a body: mostly JSON for the path, now and then anything, or a body cut in two."""
    path = draw(st.sampled_from(sorted(bodies)))
    method = draw(st.sampled_from(["POST"] * 20 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return method, path, draw(RAW)
    body = json.dumps(draw(bodies[path])).encode()
    return method, path, body[: draw(st.integers(0, len(body)))] if kind == 1 else body


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def a_few(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Up to three of these fields: with more of them, one is nearly always refused."""
    return st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


TEXTS = st.text(max_size=20)
NAMES = TEXTS | st.sampled_from(["scripted", "scripted:latest", "other"]) | ANYTHING
FLAGS = st.booleans() | SCALARS
SCHEMAS = st.sampled_from(
    [{}, {"type": "integer"}, {"type": "object", "properties": {"a": {"enum": ["x"]}}}, {"type": "no"}, {"$ref": "#/x"}]
)
SAMPLING = {
    "temperature": st.floats(0, 2) | SCALARS,
    "top_k": st.integers(0, 50) | SCALARS,
    "top_p": st.floats(0, 1) | SCALARS,
    "seed": SCALARS,
}
TOOLS = (
    st.lists(some(type=TEXTS, name=TEXTS, function=ANYTHING, input_schema=SCHEMAS | ANYTHING), max_size=2) | ANYTHING
)


def hold(
    target: Target,
    request: Request,
    check_error: Callable[[Any], None],
    check_stream: Callable[[str], None],
    ask_well: Callable[[httpx.Client], None],
) -> None:
    """Send a request and check the answer's shape; now and then a good one after it."""
    method, path, body = request
    response = target.client.request(method, path, content=body)
    assert response.status_code in (200, 400, 404, 405, 413, 501), (response.status_code, response.text)
    if method != "HEAD":
        if response.status_code != 200:
            check_error(response.json())
        elif response.headers["content-type"].startswith("application/json"):
            response.json()
        else:
            check_stream(response.text)
    if target.is_batch_over():
        ask_well(target.client)
