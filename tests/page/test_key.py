"""A program that wants a key: the page asks for it, shows it with every request, and says when it is wrong."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import DESKTOP, PHONE, Faults
from tests.e2e.bundle import wait_until
from tests.page.person import ask, ask_and_wait, open_menu
from tests.page.scripted import Script


@pytest.fixture(autouse=True)
def locked(script: Script, faults: Faults) -> None:
    script.keys = ("sésame",)
    faults.forgive("the server responded with a status of 401")


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_key_is_asked_for_and_a_wrong_one_is_told(page: Page, size: dict[str, int], language: str) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.add_init_script(f"localStorage['holdall.language.1'] ??= '{language}'")
    page.goto("/")
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#send")).to_be_disabled()
    page.keyboard.type("ouvre-toi")
    page.keyboard.press("Enter")
    expect(page.locator("#notice-title")).to_have_text(re.compile("not the right one|pas la bonne"))
    expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
    page.keyboard.type("sésame")
    page.locator("#key-form button").click()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#question")).to_be_focused()
    ask_and_wait(page, "Hello")


def test_the_key_is_kept_for_the_session_alone(page: Page) -> None:
    page.goto("/")
    page.locator("#key").fill("sésame")
    page.keyboard.press("Enter")
    ask_and_wait(page, "Hello")
    page.reload()
    expect(page.locator(".answer")).to_have_text("Hello from the model.")
    assert page.evaluate("JSON.stringify(localStorage)").find("sésame") == -1
    other = page.context.new_page()
    other.goto("/")
    expect(other.locator("#key")).to_be_visible()


def contents(script: Script) -> list[str]:
    return [each["content"] for chat in script.chats.values() for each in chat["messages"]]


def test_a_key_that_no_longer_holds_is_asked_for_again(page: Page, script: Script) -> None:
    page.goto("/")
    page.locator("#key").fill("sésame")
    page.keyboard.press("Enter")
    words = script.say("word " * 200 + "end", waits_after=20)
    expect(ask(page, "Hello")).to_contain_text("word word")
    script.keys = ("another",)
    words.may_go_on.set()
    expect(page.locator("#key")).to_be_focused()
    page.locator("#key").fill("another")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#stop")).to_be_hidden()
    wait_until(lambda: contents(script)[-1].endswith("end"), 15, "saving what could not be saved meanwhile")
    ask_and_wait(page, "And now?")


def test_snippets_say_where_the_key_goes(page: Page) -> None:
    page.goto("/")
    page.locator("#key").fill("sésame")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_hidden()
    open_menu(page)
    page.locator("#open-api").click()
    for name in ("curl", "Python: openai", "LangChain", "Ollama"):
        page.get_by_role("tab", name=name).click()
        expect(page.locator("#snippet")).to_contain_text("YOUR_KEY")
    expect(page.locator("#dialog")).not_to_contain_text("sésame")
