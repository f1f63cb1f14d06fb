import hypothesis
import pytest
from hypothesis import strategies as st

from runtime.errors import QueueFull, Unavailable
from runtime.server.answering.errors import anthropic_error
from runtime.server.asking import body as body_module
from runtime.server.door.security import Access
from runtime.server.refusals import BodyTooLarge, Unauthorized
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
    assert error["type"] == "invalid_request_error"
    assert error["code"] == (None if path.startswith("/v1/") else 400)  # OpenAI's codes are words
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


@pytest.mark.parametrize(
    ("name", "shown"), [("x" * 5000, "x" * 900), ("\x1b[2J\u202e\0", "\ufffd[2J\ufffd\ufffd"), ("a\r\n\u2028b", "a  b")]
)
def test_an_error_quotes_no_more_of_a_request_than_a_line_shows(name: str, shown: str) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": name}]}]}
    message = ask(make_app(ScriptedEngine()), "POST", "/v1/messages", json={**body, "max_tokens": 1}).json()["error"]
    assert shown in message["message"]
    assert len(message["message"]) <= 1000
    assert message["message"].isprintable()


def test_a_length_of_thousands_of_digits_is_too_large() -> None:
    headers = {"content-length": "9" * 5000}
    response = ask(make_app(ScriptedEngine()), "POST", "/completion", content=b"{}", headers=headers)
    assert response.status_code == 413


def test_an_unknown_path_is_a_404() -> None:
    response = ask(make_app(ScriptedEngine()), "GET", "/nothing")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found_error")


def test_a_wrong_method_is_a_405_that_names_the_right_one() -> None:
    response = ask(make_app(ScriptedEngine()), "GET", "/completion")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == 405


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api", 404),
        ("GET", "/api/show", 405),
        ("POST", "/api/show", 400),
    ],
)
def test_below_api_errors_have_ollamas_shape(method: str, path: str, status: int) -> None:
    response = ask(make_app(ScriptedEngine()), method, path, content=b"{")
    assert response.status_code == status
    error = response.json()
    assert list(error) == ["error"]
    assert isinstance(error["error"], str)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/nothing", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages", 400, "invalid_request_error"),
    ],
)
def test_below_messages_errors_have_anthropics_shape(method: str, path: str, status: int, kind: str) -> None:
    response = ask(make_app(ScriptedEngine()), method, path, content=b"{")
    assert response.status_code == status
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", kind)
    assert error["error"]["message"]


def test_an_error_that_quotes_the_request_is_still_one_line() -> None:
    error = ask(make_app(ScriptedEngine()), "POST", "/api/show", json={"model": "a\nb\u2028c"}).json()["error"]
    assert error.startswith("model 'a b c' not found")


def test_a_path_that_only_begins_like_a_dialects_is_not_its_own() -> None:
    for path in ("/apistuff", "/v1/messages2"):
        assert ask(make_app(ScriptedEngine()), "GET", path).json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueueFull(256, retry_after_seconds=5), 529, "overloaded_error"),
        (Unavailable("the program is stopping"), 503, "api_error"),
        (Unauthorized("no key"), 401, "authentication_error"),
        (BodyTooLarge("too large"), 413, "invalid_request_error"),
        (ZeroDivisionError("secret"), 500, "api_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anthropics_words_for_an_error(error: Exception, status: int, kind: str) -> None:
    found, body = anthropic_error(error)
    assert (found, body["error"]["type"]) == (status, kind)
    assert "secret" not in body["error"]["message"]


def test_who_is_not_let_in_hears_it_in_the_dialect_of_the_path() -> None:
    app = make_app(ScriptedEngine(), access=Access(keys=("secret",)))
    assert isinstance(ask(app, "GET", "/api/tags").json()["error"], str)
    refused = ask(app, "POST", "/v1/messages", json={})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert ask(app, "GET", "/api/tags", headers={"x-api-key": "secret"}).status_code == 200


def test_a_bug_is_a_500_without_its_words(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_args: object, **_named: object) -> list[int]:
        raise ZeroDivisionError("/home/someone/secret.py")

    engine = ScriptedEngine()
    monkeypatch.setattr(engine.vocabulary, "tokenize", broken)
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


@hypothesis.settings(max_examples=150)
@hypothesis.given(st.sampled_from(POSTS), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_no_body_breaks_the_server(path: str, body: dict[str, object]) -> None:
    response = ask(make_app(ScriptedEngine()), "POST", path, json=body)
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert set(response.json()["error"]) >= {"message", "type", "code", "param"}
