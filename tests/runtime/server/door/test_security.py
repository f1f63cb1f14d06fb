"""Who is let in, over the application as it ships."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.server.door.security import Access
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

KEYS = ("secret-one", "secret-two")
POSTS = ["/completion", "/v1/chat/completions", "/tokenize", "/nothing"]
FOREIGN = "https://example.com"


def send(method: str, path: str, headers: dict[str, str], *, access: Access, **options: Any) -> httpx.Response:
    return ask(make_app(ScriptedEngine(), access=access), method, path, headers=headers, **options)


def complete(headers: dict[str, str], *, access: Access) -> httpx.Response:
    return send("POST", "/completion", headers, access=access, json={"prompt": "Hi"})


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "secret-one"},
        {"authorization": "Basic secret-one"},
        {"authorization": "Bearer secret-on"},
        {"authorization": "Bearer secret-one2"},
        {"x-api-key": ""},
    ],
    ids=str,
)
def test_without_one_of_the_keys_nothing_is_done(path: str, headers: dict[str, str]) -> None:
    engine = ScriptedEngine()
    app = make_app(engine, access=Access(keys=KEYS))
    response = ask(app, "POST", path, headers=headers, json={"prompt": "Hi"})
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json()["error"]["type"] == "authentication_error"
    assert not engine.requests


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer secret-one"},
        {"authorization": "bearer  secret-two"},
        {"x-api-key": "secret-two"},
        {"authorization": "Bearer wrong", "x-api-key": "secret-one"},
    ],
    ids=str,
)
def test_any_of_the_keys_opens(headers: dict[str, str]) -> None:
    assert complete(headers, access=Access(keys=KEYS)).status_code == 200


def test_a_key_need_not_be_ascii() -> None:
    app = make_app(ScriptedEngine(), access=Access(keys=("schlüssel",)))
    for key, status in (("schlüssel", 200), ("schlussel", 401)):
        headers = {"authorization": b"Bearer " + key.encode()}
        assert ask(app, "POST", "/completion", headers=headers, json={"prompt": "Hi"}).status_code == status


def test_the_health_and_the_page_need_no_key(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    app = make_app(ScriptedEngine(), access=Access(keys=KEYS), webclient=tmp_path)
    for path in ("/", "/index.html", "/health", "/v1/health"):
        assert ask(app, "GET", path).status_code == 200
    for path in ("/props", "/v1/models", "/models", "/slots", "/index.htm", "/health/"):
        assert ask(app, "GET", path).status_code == 401


def test_without_keys_everybody_is_let_in() -> None:
    assert complete({}, access=Access()).status_code == 200
    assert complete({"authorization": "Bearer any"}, access=Access()).status_code == 200


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8080", "model.localhost:1", "127.0.0.1", "127.8.9.1:80", "[::1]:8080", "[::1]"),
        *("192.168.1.7:8080", "10.0.0.1", "[fe80::1]:8080", "my-box:8080", "My-Box"),
    ],
)
def test_names_of_ours_and_addresses_are_served(host: str) -> None:
    assert complete({"host": host}, access=Access(hosts=("my-box",))).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.com",
            "evil.com:8080",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "127.0.0.1.nip.io:8080",
            "notlocalhost",
        ),
        *("", ":8080", "my-box", "evil.com:localhost", "2130706433", "0x7f.1", "localhost."),
    ],
)
def test_other_names_are_refused_whatever_is_asked(host: str) -> None:
    for method, path in (("POST", "/completion"), ("GET", "/health"), ("GET", "/"), ("OPTIONS", "/completion")):
        response = send(method, path, {"host": host}, access=Access(keys=KEYS))
        assert response.status_code == 403, host
        assert response.json()["error"]["type"] == "permission_error"
        assert "--allowed-hosts" in response.json()["error"]["message"]


# -- pages -------------------------------------------------------------------------------------------------------------

PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def shared(response: httpx.Response) -> list[str]:
    return [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["http://localhost:8080", "HTTP://LOCALHOST:8080", "https://localhost:8080"])
def test_our_own_page_may_do_everything(origin: str) -> None:
    response = complete({"host": "localhost:8080", "origin": origin}, access=Access())
    assert response.status_code == 200
    assert not shared(response)  # nor does it need leave


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://localhost:3000", "http://127.0.0.1:8080", "http://localhost", "HTTPS://x.y"]
)
def test_a_foreign_page_neither_acts_nor_reads(origin: str) -> None:
    headers = {"host": "localhost:8080", "origin": origin}
    response = complete(headers, access=Access())
    assert (response.status_code, response.json()["error"]["type"]) == (403, "permission_error")
    assert not shared(response)
    assert not shared(send("GET", "/health", headers, access=Access()))
    preflight = send("OPTIONS", "/completion", {**headers, **PREFLIGHT}, access=Access())
    assert (preflight.status_code, shared(preflight)) == (200, [])


@pytest.mark.parametrize("origin", ["vscode-webview://1abc", "chrome-extension://abcdef", "app://obsidian.md"])
def test_an_installed_program_is_no_page(origin: str) -> None:
    response = complete({"origin": origin}, access=Access())
    assert (response.status_code, shared(response)) == (200, [])


@pytest.mark.parametrize(
    ("origins", "origin"),
    [
        (("*",), FOREIGN),
        (("*",), "null"),
        ((FOREIGN,), FOREIGN),
        (("https://other.org", "HTTPS://EXAMPLE.com/"), FOREIGN),
        (("localhost",), "http://localhost:3000"),
        (("localhost",), "http://127.0.0.1"),
        (("localhost",), "https://[::1]:3000"),
        (("localhost",), "http://app.localhost"),
    ],
)
def test_a_page_that_is_welcome_acts_and_reads(origins: tuple[str, ...], origin: str) -> None:
    headers, access = {"host": "localhost:8080", "origin": origin}, Access(origins=origins)
    response = complete(headers, access=access)
    assert response.status_code == 200
    assert (response.headers["access-control-allow-origin"], response.headers["vary"]) == (origin, "Origin")
    preflight = send("OPTIONS", "/completion", {**headers, **PREFLIGHT}, access=access)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("origins", "is_trusted"), [(("*",), False), ((FOREIGN,), True), (("*", FOREIGN), True), (("localhost",), True)]
)
def test_only_a_page_that_is_named_may_send_cookies_to_a_proxy_before_this(
    origins: tuple[str, ...], is_trusted: bool
) -> None:
    origin = "http://localhost:3000" if "localhost" in origins else FOREIGN
    headers, access = {"host": "localhost:8080", "origin": origin}, Access(origins=origins)
    for response in (
        complete(headers, access=access),
        send("OPTIONS", "/completion", {**headers, **PREFLIGHT}, access=access),
    ):
        assert response.headers["access-control-allow-origin"] == origin
        assert response.headers.get("access-control-allow-credentials") == ("true" if is_trusted else None)


@pytest.mark.parametrize("origin", [FOREIGN, "http://notlocalhost", "http://localhost.evil.com", "http://[", "null"])
def test_a_word_for_this_machine_means_no_other(origin: str) -> None:
    headers = {"host": "localhost:8080", "origin": origin}
    assert complete(headers, access=Access(origins=("localhost",))).status_code == 403


def test_a_welcome_page_needs_the_key_too_and_may_read_that_it_does() -> None:
    access = Access(keys=KEYS, origins=(FOREIGN,))
    refused = complete({"origin": FOREIGN}, access=access)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, FOREIGN)
    preflight = send("OPTIONS", "/completion", {"origin": FOREIGN, **PREFLIGHT}, access=access)
    assert preflight.status_code == 200  # browsers send no key with it
    assert complete({"origin": FOREIGN, "x-api-key": KEYS[0]}, access=access).status_code == 200
