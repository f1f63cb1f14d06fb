import hypothesis
import pytest
from hypothesis import strategies as st

from runtime.errors import QueueFull
from runtime.server import body as body_module
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

POSTS = ["/completion", "/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000],
    ids=["empty", "half", "list", "latin", "text", "deep"],
)
def test_a_body_that_is_no_object_is_a_400(path: str, content: bytes) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", path, content=content)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", 400)
    assert error["message"]


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_that_is_too_large_is_a_413(monkeypatch: pytest.MonkeyPatch, has_length: bool) -> None:
    monkeypatch.setattr(body_module, "MAX_BODY_BYTES", 100)
    body = b'{"prompt": "' + b"x" * 200 + b'"}'

    async def chunks():  # type: ignore[no-untyped-def]
        yield body

    response = ask(make_app(ScriptedEngine()), "POST", "/completion", content=body if has_length else chunks())
    assert (response.status_code, response.json()["error"]["code"]) == (413, 413)


def test_a_full_queue_is_a_503_that_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise QueueFull(256, retry_after_seconds=5)

    engine = ScriptedEngine()
    monkeypatch.setattr(engine, "submit", refuse)
    for path, body in (("/completion", {"prompt": "x", "stream": True}), ("/v1/completions", {"prompt": "x"})):
        response = ask(make_app(engine), "POST", path, json=body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["error"]["type"] == "unavailable_error"


def test_an_unknown_path_is_a_404() -> None:
    response = ask(make_app(ScriptedEngine()), "GET", "/nothing")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")


def test_a_wrong_method_is_a_405_that_names_the_right_one() -> None:
    response = ask(make_app(ScriptedEngine()), "GET", "/completion")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == 405


def test_a_bug_is_a_500_without_its_words(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_args: object, **_named: object) -> list[int]:
        raise ZeroDivisionError("/home/someone/secret.py")

    engine = ScriptedEngine()
    monkeypatch.setattr(engine, "tokenize", broken)
    response = ask(make_app(engine), "POST", "/completion", json={"prompt": "Hi"})
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "".join(capfd.readouterr()) == ""


def test_foreign_origins_are_not_let_in() -> None:
    response = ask(make_app(ScriptedEngine()), "GET", "/health", headers={"origin": "https://example.com"})
    assert not [name for name in response.headers if name.startswith("access-control")]


FIELDS = [
    *("prompt", "messages", "content", "tokens", "stop", "seed", "temperature", "top_k", "repeat_last_n", "stream"),
    *("n_predict", "max_tokens", "options", "stream_options", "n", "tools", "response_format", "logit_bias", "model"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "user", "include_usage"]), inner)
    ),
    max_leaves=6,
)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.sampled_from(POSTS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_no_body_breaks_the_server(path: str, body: dict[str, object]) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", path, json=body)
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert set(response.json()["error"]) >= {"message", "type", "code", "param"}
