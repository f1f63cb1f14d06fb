"""axe-core finds no serious fault in the page's main states; it comes from npm, once, into the cache."""

import re
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import DESKTOP, PHONE, Faults
from tests.page.person import ask_and_wait, open_menu
from tests.page.scripted import Script, message
from tests.page.test_attachments import DROP
from tests.webclient.npm import installed

State = Callable[[Page, Script], object]

AXE = "axe-core@4.14.1"
ANSWER = """# Title

Text with `code` and [a link](https://example.org).

| a | b |
|---|---|
| 1 | 2 |

```py
x = 1  # one
```

- [x] done"""
RUN_AXE = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}"""


@pytest.fixture(scope="session")
def axe() -> str:
    return (installed(AXE) / "axe-core" / "axe.min.js").read_text()


def with_answer(page: Page, script: Script) -> None:
    script.say(ANSWER, reasoning="Hm.")
    ask_and_wait(page, "Show me")
    page.locator(".from-model").hover()


def with_two_versions(page: Page, script: Script) -> None:
    ask_and_wait(page, "Try")
    page.locator(".from-model .bar button").nth(1).click()
    expect(page.locator(".versions")).to_be_visible()
    page.locator(".from-reader").hover()
    page.locator(".from-reader .bar button").first.click()


def with_trouble(page: Page, script: Script) -> None:
    script.say("", error=(400, {"type": "invalid_request_error", "message": "no"}))
    ask_and_wait(page, "Try")


def with_menu(page: Page, script: Script) -> None:
    open_menu(page)
    page.locator("#chats li button.icon").first.click()


def with_attachments(page: Page, script: Script) -> None:
    """One that fits, one that is looked up, and the sources of what was."""
    for name, text in (("long.txt", "Nothing of note here at all.\n\n" * 500), ("short.txt", "one two")):
        page.evaluate(DROP, [name, text])
        expect(page.locator("#attachments .chip").last).to_contain_text(re.compile("token|jeton"))
    ask_and_wait(page, "What is there?")
    page.locator(".passages summary").click()
    page.evaluate(DROP, ["short.txt", "one two"])
    expect(page.locator("#attachments .chip")).to_contain_text(re.compile("token|jeton"))


def with_files_over_it(page: Page, script: Script) -> None:
    page.evaluate(DROP, ["song.mp3", "\0\0\0"])
    expect(page.locator(".toast")).to_be_visible()


def in_notebook(page: Page, script: Script) -> None:
    open_menu(page)
    page.locator("#mode-notebook").click()
    page.locator("#text").fill("Once")


def with_chances(page: Page, script: Script) -> None:
    in_notebook(page, script)
    page.locator("#show-chances").check()
    page.locator("#generate").click()
    expect(page.locator("#generate")).to_be_visible()
    page.locator("#mirror span").nth(1).hover(force=True)
    expect(page.locator("#chances")).to_be_visible()


def with_dialog(button: str) -> State:
    def go(page: Page, script: Script) -> None:
        open_menu(page)
        page.locator(button).click()
        expect(page.locator("#dialog")).to_be_visible()

    return go


def with_key_form(page: Page, script: Script) -> None:
    script.keys = ("sésame",)
    page.reload()
    page.locator("#key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")


def while_loading(page: Page, script: Script) -> None:
    script.health = {"error": {"code": 503, "message": "Loading model"}, "progress": 0.42}
    page.reload()
    expect(page.get_by_role("progressbar")).to_be_visible()


def when_gone(page: Page, script: Script) -> None:
    page.route("**/*", lambda route: route.abort("connectionrefused"))
    expect(page.locator("#notice")).to_be_visible()


def after_the_end(page: Page, script: Script) -> None:
    with_dialog("#open-quit")(page, script)
    page.locator("#dialog .strong").click()
    expect(page.locator("#end")).to_be_visible()


STATES: dict[str, State] = {
    "welcome": lambda page, script: None,
    "answer": with_answer,
    "versions and editor": with_two_versions,
    "trouble": with_trouble,
    "list": lambda page, script: open_menu(page),
    "menu": with_menu,
    "attachments": with_attachments,
    "toast": with_files_over_it,
    "settings": lambda page, script: page.locator("#open-settings").click(),
    "card": lambda page, script: page.locator("#about-model").click(),
    "api": with_dialog("#open-api"),
    "preferences": with_dialog("#open-preferences"),
    "quit": with_dialog("#open-quit"),
    "end": after_the_end,
    "notebook": in_notebook,
    "chances": with_chances,
    "key": with_key_form,
    "loading": while_loading,
    "gone": when_gone,
}
# Each size and each language in light and in dark.
LOOKS = [("desktop", "en", "light"), ("desktop", "fr", "dark"), ("phone", "fr", "light"), ("phone", "en", "dark")]


@pytest.mark.parametrize(("size", "language", "scheme"), LOOKS, ids=["-".join(look) for look in LOOKS])
def test_axe_finds_nothing_serious(
    page: Page, script: Script, faults: Faults, axe: str, size: str, language: str, scheme: Literal["light", "dark"]
) -> None:
    faults.forgive("the server responded with a status of 400")
    faults.forgive("the server responded with a status of 401")
    faults.forgive("net::ERR_CONNECTION_REFUSED")
    found = {}
    page.set_viewport_size(PHONE if size == "phone" else DESKTOP)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.add_init_script(f"location.host && (localStorage['holdall.language.1'] ??= '{language}')")
    script.keep(message("q", "user", "hi"), message("a", "assistant", "yo", "q"), title="Kept")
    for name, go in STATES.items():
        page.goto("about:blank")
        page.goto("/")
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.locator("#welcome-line")).not_to_be_empty()
        expect(page.locator("#chats li").first).to_be_attached()
        go(page, script)
        page.evaluate(axe)
        violations = page.evaluate(RUN_AXE)
        page.unroute_all()
        script.answers.clear()
        script.keys, script.health = (), None
        if violations:
            found[name] = violations
    assert found == {}
