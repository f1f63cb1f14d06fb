from typing import Any

import pytest

from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app


def test_the_program_ends_after_the_answer() -> None:
    ended: list[bool] = []
    app = make_app(ScriptedEngine(), end_program=lambda: ended.append(True))
    response = ask(app, "POST", "/quit", headers={"x-holdall": "page"})
    assert (response.status_code, response.json()) == (200, {"quitting": True})
    assert ended == [True]


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"headers": {"x-holdall": "1"}},
        {"headers": {"x-holdall": "page", "origin": "https://evil.example"}},
        {"headers": {"x-holdall": "page", "origin": "http://localhost:8081"}},
        {"headers": {"content-type": "application/x-www-form-urlencoded"}, "content": "x-holdall=page"},
        {"params": {"x-holdall": "page"}},
    ],
)
def test_no_other_site_can_end_it(request_of: Any) -> None:
    ended: list[bool] = []
    app = make_app(ScriptedEngine(), end_program=lambda: ended.append(True))
    assert ask(app, "POST", "/quit", **request_of).status_code == 403
    assert ask(app, "GET", "/quit", headers={"x-holdall": "page"}).status_code == 405
    assert ended == []


def test_a_browser_that_asks_first_is_refused() -> None:
    headers = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-holdall",
    }
    response = ask(make_app(ScriptedEngine()), "OPTIONS", "/quit", headers=headers)
    assert not [name for name in response.headers if name.lower().startswith("access-control-")]
