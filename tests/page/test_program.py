"""The program behind the page: its face, its state, its end, and its other uses."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import DESKTOP, PHONE, Faults
from tests.page.person import ask_and_wait, open_menu
from tests.page.scripted import Script

FOCUS_ORDER = [
    "mode-chat", "mode-notebook", "new-chat", "search", "open-api", "open-preferences", "open-quit",
    "about-model", "open-settings", "transcript", "question", "attach",
]  # fmt: skip


def test_the_bundle_shows_its_face_and_a_suggestion_asks(any_chat: Page, script: Script) -> None:
    expect(any_chat).to_have_title("Marginalia")
    expect(any_chat.locator("#welcome-title")).to_have_text("What shall we read?")
    expect(any_chat.locator("#welcome")).to_contain_text("A patient reading companion")
    any_chat.get_by_role("button", name="Write a haiku about rain").click()
    expect(any_chat.locator(".answer")).to_have_text("Hello from the model.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Write a haiku about rain"}]


def test_the_model_card_is_one_click_away(any_chat: Page) -> None:
    any_chat.locator("#about-model").click()
    card = any_chat.locator("#dialog")
    for fact in ("scripted-1B-Instruct", "Q8_0", "Apache-2.0", "https://example.org/scripted-1B", "llama"):
        expect(card).to_contain_text(fact)
    any_chat.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(any_chat.locator("#about-model")).to_be_focused()


def test_loading_is_shown_until_the_model_is_ready(page: Page, script: Script) -> None:
    script.health = {"error": {"code": 503, "message": "Loading model"}, "progress": 0.42}
    page.goto("/")
    expect(page.locator("#notice")).to_contain_text("42%")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 0.42)
    script.health = None
    expect(page.locator("#notice")).to_be_hidden()


def test_a_program_that_is_gone_is_noticed_and_so_is_its_return(any_chat: Page, faults: Faults) -> None:
    faults.forgive("net::ERR_CONNECTION_REFUSED")
    any_chat.route("**/*", lambda route: route.abort("connectionrefused"))
    expect(any_chat.locator("#notice")).to_contain_text(re.compile("isn\u2019t running|ne fonctionne plus"))
    any_chat.locator("#question").fill("Hello")
    expect(any_chat.locator("#send")).to_be_disabled()
    any_chat.unroute("**/*")
    expect(any_chat.locator("#notice")).to_be_hidden()
    ask_and_wait(any_chat, "Hello")


def test_quit_ends_the_program(any_chat: Page, script: Script) -> None:
    open_menu(any_chat)
    any_chat.locator("#open-quit").click()
    any_chat.locator("#dialog .quiet").click()
    assert not script.has_quit
    any_chat.locator("#open-quit").click()
    any_chat.locator("#dialog .strong").click()
    expect(any_chat.locator("#end")).to_be_visible()
    assert script.has_quit
    assert script.foreign_quits == 0


def test_snippets_for_programs_are_copied(any_chat: Page, bundle_server: object) -> None:
    any_chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_menu(any_chat)
    any_chat.locator("#open-api").click()
    base = bundle_server.url  # type: ignore[attr-defined]
    expect(any_chat.locator("#base-url")).to_have_value(f"{base}/v1")
    for name in ("curl", "Python: openai", "LangChain", "Ollama"):
        any_chat.get_by_role("tab", name=name).click()
        any_chat.locator("#dialog .snippet button").click()
        copied = any_chat.evaluate("navigator.clipboard.readText()")
        assert base in copied, name
    any_chat.get_by_role("tab", name="Ollama").press("ArrowRight")
    expect(any_chat.get_by_role("tab", name="curl")).to_be_focused()


def test_the_language_changes_at_once_and_stays(chat: Page) -> None:
    ask_and_wait(chat, "Hello")
    chat.locator("#open-preferences").click()
    chat.locator("#language").select_option("fr")
    expect(chat.locator("#dialog-title")).to_have_text("Préférences")
    chat.keyboard.press("Escape")
    expect(chat.locator("#question")).to_have_attribute("placeholder", "Écrivez un message…")
    expect(chat.locator(".from-model button").first).to_have_attribute("aria-label", "Copier")
    chat.reload()
    expect(chat.locator("html")).to_have_attribute("lang", "fr")


def test_the_appearance_can_be_chosen(chat: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = chat.evaluate(background)
    chat.locator("#open-preferences").click()
    chat.locator("#appearance").select_option("dark")
    assert chat.evaluate(background) != light
    chat.reload()
    assert chat.evaluate(background) != light


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_notebook_goes_on_and_tells_how_sure_it_was(page: Page, script: Script, size: dict[str, int]) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto("/")
    expect(page.locator("#welcome-line")).not_to_be_empty()
    open_menu(page)
    page.locator("#mode-notebook").click()
    page.locator("#text").fill("Once upon a time")
    page.locator("#generate").click()
    expect(page.locator("#text")).to_have_value("Once upon a time and so it went on.")
    assert script.requests[-1]["prompt"] == "Once upon a time"
    box = page.locator("#mirror span").nth(2).bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#chances")).to_contain_text("62%")
    expect(page.locator("#chances")).to_contain_text("<b>other</b>")
    page.locator("#text").press("End")
    page.locator("#text").press_sequentially(" The end.")
    expect(page.locator("#mirror span")).to_have_count(5)
    page.locator("#take-back").click()
    expect(page.locator("#text")).to_have_value("Once upon a time")


def test_everything_is_reached_with_the_keyboard(chat: Page) -> None:
    chat.locator("body").press("Control+k")
    expect(chat.locator("#search")).to_be_focused()
    chat.locator(".skip").focus()
    reached = []
    for _ in range(25):
        chat.keyboard.press("Tab")
        reached.append(chat.evaluate("document.activeElement.id"))
    assert [each for each in reached if each in FOCUS_ORDER][: len(FOCUS_ORDER)] == FOCUS_ORDER
    chat.locator(".skip").focus()
    chat.keyboard.press("Enter")
    expect(chat.locator("#question")).to_be_focused()
    chat.keyboard.type("one")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("two")
    chat.keyboard.press("Enter")
    expect(chat.locator(".question")).to_have_text("one\ntwo")


def test_motion_is_reduced_where_that_is_wanted(page: Page, script: Script) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto("/")
    expect(page.locator("#welcome-line")).not_to_be_empty()
    script.say("slow " * 50, waits_after=10)
    page.locator("#question").fill("Hi")
    page.locator("#send").click()
    expect(page.locator("[data-state=growing]")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
