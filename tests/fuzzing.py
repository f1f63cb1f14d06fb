"""Requests that nobody would send, and a server with a real model to send them to."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
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


# As JSON spells them; many are no value that Python's `json` would write.
BAD_VALUES = {
    "null": "null",
    "true": "true",
    "false": "false",
    "minus nought": "-0",
    "minus nought, broken": "-0.0",
    "minus one": "-1",
    "a half": "0.5",
    "seven": "7",
    "a number that C takes for less": "4294967297",
    "2**31": "2147483648",
    "2**63": "9223372036854775808",
    "-2**63 - 1": "-9223372036854775809",
    "beyond 32 bits of a float": "3.5e38",
    "the largest float": "1.7976931348623157e308",
    "less than any float": "1e-400",
    "more than any float": "1e400",
    "-1e400": "-1e400",
    "309 digits": "1" + "0" * 308,
    "310 digits": "-1" + "0" * 309,
    "4,300 digits": "9" * 4300,
    "4,301 digits": "9" * 4301,
    "-4,301 digits": "-" + "9" * 4301,
    "4,301 digits, broken": "9" * 4301 + ".5",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "no text": '""',
    "a space": '" "',
    "a NUL": '"a\\u0000b"',
    "half a surrogate pair": '"\\ud800"',
    "a pair the wrong way round": '"\\udc00\\ud800"',
    "half a pair in JSON in a text": json.dumps(json.dumps({"a": "\ud800", "\udfff": 1})),
    "4,301 digits in JSON in a text": json.dumps(f'{{"a": {"9" * 4301}}}'),
    "NaN in JSON in a text": json.dumps('{"a": NaN, "b": 1e400}'),
    "nested JSON in a text": json.dumps('{"a":' * 400 + "1" + "}" * 400),
    "deeply nested JSON in a text": json.dumps('{"a":' * 20_000 + "1" + "}" * 20_000),
    "ends of lines": '"a\\r\\nb\\u2028c\\u0085d"',
    "a terminal's escape": '"\\u001b[2J\\u202e"',
    "a number as text": f'"{"9" * 4301}"',
    "letters": f'"{"x" * 5000}"',
    "no list": "[]",
    "lists": "[[]]",
    "an object in a list": "[{}]",
    "nothing in a list": "[null]",
    "a truth in a list": "[true]",
    "no text in a list": '[""]',
    "half a pair in a list": '["\\udfff"]',
    "a NUL in a list": '["\\u0000"]',
    "numbers in a list": "[1e308, -1, 0.5, 9223372036854775808]",
    "pairs in a list": f"[[1, {'9' * 4300}], [-1, 1], [1e300, false]]",
    "no object": "{}",
    "no key": '{"": ""}',
    "half a pair as a key": '{"\\ud800": 1}',
    "a NUL as a key": '{"\\u0000": {"type": "\\u0000"}}',
    "a key twice": '{"a": 1, "a": [2]}',
    "127 lists": "[" * 100 + "]" * 100,
    "200 lists": "[" * 200 + "]" * 200,
    "100,000 lists": "[" * 100_000 + "]" * 100_000,
    "lists without an end": "[" * 100_000,
}
BAD_KEYS = {
    "none": '""',
    "half a pair": '"\\ud800"',
    "a NUL": '"\\u0000"',
    "a megabyte": f'"{"k" * 2**20}"',
    "an attribute": '"__class__"',
}
# As an address spells them.
BAD_NAMES = {
    "nothing": "",
    "a NUL": "%00",
    "half a pair": "%ed%a0%80",
    "no UTF-8": "%ff%fe",
    "no escape": "%zz%",
    "dots": "%2e%2e",
    "a folder": "..%2f..%2fetc%2fpasswd",
    "the end of a line": "a%0d%0ab",
    "minus one": "-1",
    "a half": "0.5",
    "digits of another script": "%d9%a3",
    "a superscript": "%c2%b2",
    "4,301 digits": "9" * 4301,
    "letters": "x" * 5000,
    "more than any float": "1e400",
    "NaN": "NaN",
    "a space": "%20",
    "a plus": "+",
}
_HERE = "\ue000"  # where a value goes
Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """The way to each value inside another, by keys and indices."""
    pairs: Iterable[tuple[str | int, Any]]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*place, key)
        yield from places(inner, (*place, key))


def value_at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def with_value(body: Any, place: Place, spelt: str) -> bytes:
    """Return a body as JSON with something else at a place, there or not, spelt as it is to be sent."""
    changed = json.loads(json.dumps(body))
    value_at(changed, place[:-1])[place[-1]] = _HERE
    return json.dumps(changed).replace(json.dumps(_HERE), spelt).encode()


def with_key(body: Any, place: Place, spelt: str) -> bytes:
    """Return a body as JSON with one more key in the object at a place."""
    return with_value(body, (*place, _HERE), "1").replace(json.dumps(_HERE).encode(), spelt.encode())


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
