from pathlib import Path

import httpx
import pytest

from runtime.server.page.files import WEBCLIENT, page_endpoints
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "parts").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>ü", encoding="utf-8")
    (folder / "parts" / "app.js").write_text("export {};")
    (folder / "notes.txt").write_text("not for the world")
    (tmp_path / "outside.js").write_text("secret")
    return folder


def get(page: Path, path: str, **options: object) -> httpx.Response:
    return ask(make_app(ScriptedEngine(), webclient=page), "GET", path, **options)


@pytest.mark.parametrize(
    ("path", "content", "media_type"),
    [
        ("/", "<!doctype html>ü", "text/html; charset=utf-8"),
        ("/index.html", "<!doctype html>ü", "text/html; charset=utf-8"),
        ("/parts/app.js", "export {};", "text/javascript; charset=utf-8"),
    ],
)
def test_a_file_of_the_page_is_served_with_its_guards(page: Path, path: str, content: str, media_type: str) -> None:
    response = get(page, path)
    assert (response.status_code, response.text) == (200, content)
    assert response.headers["content-type"] == media_type
    assert response.headers["content-security-policy"].startswith("default-src 'self';")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip, deflate, br", "gzip"), ("br;q=1.0, GZIP; q=0.5", "gzip"), ("gzip;q=0", None), ("br", None), ("", None)],
)
def test_a_file_is_packed_for_whom_it_may_be(page: Path, accepted: str, encoding: str | None) -> None:
    response = get(page, "/", headers={"accept-encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert response.text == "<!doctype html>ü"
    assert response.headers["vary"] == "accept-encoding"


def test_the_whole_page_is_less_than_200_kb_on_its_way() -> None:
    app = make_app(ScriptedEngine(), webclient=WEBCLIENT)
    paths = [path for path, _ in page_endpoints(WEBCLIENT) if path != "/"]
    answers = [ask(app, "GET", path, headers={"accept-encoding": "gzip"}) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    assert sum(int(answer.headers["content-length"]) for answer in answers) < 200_000


def test_a_known_file_is_not_sent_again(page: Path) -> None:
    etag = get(page, "/").headers["etag"]
    again = get(page, "/", headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert get(page, "/", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/notes.txt", "/../outside.js", "/%2e%2e/outside.js", "/parts", "/parts/../app.js"])
def test_nothing_else_is_served(page: Path, path: str) -> None:
    assert get(page, path).status_code == 404


def test_the_page_that_ships_is_served() -> None:
    response = ask(make_app(ScriptedEngine(), webclient=WEBCLIENT), "GET", "/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
