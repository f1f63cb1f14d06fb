"""The program behind the page: its face, its state, its end, and its other uses."""

import re
from base64 import b64encode

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import Faults, ServesAPage
from tests.page.person import ask_and_wait, open_menu, word
from tests.page.scripted import Script

LIST = ["mode-chat", "mode-notebook", "new-chat", "search", "open-api", "open-preferences", "open-quit"]
PAGE = ["about-model", "open-settings", "transcript", "question", "attach"]
ICON = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle cx="4" cy="4" r="4" fill="red"/></svg>'


def test_the_bundle_shows_its_face_and_a_suggestion_asks(any_chat: Page, script: Script) -> None:
    expect(any_chat).to_have_title("Marginalia")
    expect(any_chat.locator("#welcome-title")).to_have_text("What shall we read?")
    expect(any_chat.locator("#welcome")).to_contain_text("A patient reading companion")
    any_chat.get_by_role("button", name="Write a haiku about rain").click()
    expect(any_chat.locator(".answer")).to_have_text("Hello from the model.")
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Write a haiku about rain"}]


def test_the_bundle_shows_its_own_icon(any_chat: Page, script: Script) -> None:
    expect(any_chat.locator("#welcome-picture img")).to_have_attribute("src", "icon.svg")
    icon = f"data:image/svg+xml;base64,{b64encode(ICON).decode()}"
    script.face["icon"] = icon
    any_chat.reload()
    expect(any_chat.locator("#favicon")).to_have_attribute("href", icon)
    any_chat.locator("#about-model").click()
    for place in ("#brand-picture", "#welcome-picture", ".card-head"):
        picture = any_chat.locator(f"{place} img")
        expect(picture).to_have_attribute("src", icon)
        assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") == 9
    any_chat.keyboard.press("Escape")
    open_menu(any_chat)
    expect(any_chat.locator("#brand-picture img")).to_be_in_viewport()


def test_the_model_card_is_one_click_away(any_chat: Page) -> None:
    any_chat.locator("#about-model").click()
    card = any_chat.locator("#dialog")
    for fact in ("scripted-1B-Instruct", "Q8_0", "Apache-2.0", "https://example.org/scripted-1B", "llama"):
        expect(card).to_contain_text(fact)
    any_chat.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(any_chat.locator("#about-model")).to_be_focused()


def test_loading_is_shown_until_the_model_is_ready(chat: Page, script: Script) -> None:
    script.health = {"error": {"code": 503, "message": "Loading model"}, "progress": 0.42}
    chat.reload()
    expect(chat.locator("#notice")).to_contain_text(word(chat, "Getting the model ready", "Préparation du modèle"))
    expect(chat.locator("#notice")).to_contain_text(re.compile(r"42\s?%"))
    expect(chat.get_by_role("progressbar")).to_have_js_property("value", 0.42)
    script.health = None
    expect(chat.locator("#notice")).to_be_hidden()


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
        code, button = (any_chat.locator(f"#dialog .snippet {each}").bounding_box() for each in ("pre", "button"))
        assert code
        assert button
        assert code["x"] + code["width"] <= button["x"], "nothing lies over the code"
    any_chat.get_by_role("tab", name="Ollama").press("ArrowRight")
    expect(any_chat.get_by_role("tab", name="curl")).to_be_focused()


def test_the_language_changes_at_once_and_stays(chat: Page) -> None:
    other = word(chat, "fr", "en")
    ask_and_wait(chat, "Hello")
    open_menu(chat)
    chat.locator("#open-preferences").click()
    chat.locator("#language").select_option(other)
    expect(chat.locator("html")).to_have_attribute("lang", other)
    expect(chat.locator("#dialog-title")).to_have_text(word(chat, "Preferences", "Préférences"))
    chat.keyboard.press("Escape")
    hint = word(chat, "Write a message…", "Écrivez un message…")
    expect(chat.locator("#question")).to_have_attribute("placeholder", hint)
    label = word(chat, "Copy", "Copier")
    expect(chat.locator(".from-model button").first).to_have_attribute("aria-label", label)
    chat.reload()
    expect(chat.locator("html")).to_have_attribute("lang", other)


@pytest.mark.parametrize(("locale", "language"), [("fr-CA", "fr"), ("en-GB", "en"), ("de-DE", "en")])
def test_the_page_speaks_as_the_browser_does(
    browser: Browser, bundle_server: ServesAPage, locale: str, language: str
) -> None:
    page = browser.new_page(locale=locale, base_url=bundle_server.url)
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", language)
    page.context.close()


def test_the_appearance_can_be_chosen(chat: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = chat.evaluate(background)
    open_menu(chat)
    chat.locator("#open-preferences").click()
    chat.locator("#appearance").select_option("dark")
    assert chat.evaluate(background) != light
    chat.reload()
    assert chat.evaluate(background) != light


def open_notebook(page: Page) -> None:
    open_menu(page)
    page.locator("#mode-notebook").click()


def test_the_notebook_goes_on_and_tells_how_sure_it_was(any_chat: Page, script: Script) -> None:
    open_notebook(any_chat)
    any_chat.locator("#text").fill("Once upon a time")
    any_chat.locator("#generate").click()
    expect(any_chat.locator("#text")).to_have_value("Once upon a time and so it went on.")
    assert script.requests[-1]["prompt"] == "Once upon a time"
    box = any_chat.locator("#mirror span").nth(2).bounding_box()
    assert box
    any_chat.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(any_chat.locator("#chances")).to_contain_text(re.compile(r"62\s?%"))
    expect(any_chat.locator("#chances")).to_contain_text("<b>other</b>")
    any_chat.locator("#text").press("End")
    any_chat.locator("#text").press_sequentially(" The end.")
    expect(any_chat.locator("#mirror span")).to_have_count(5)
    any_chat.locator("#take-back").click()
    expect(any_chat.locator("#text")).to_have_value("Once upon a time")


def test_a_text_is_given_another_ending_and_cleared(any_chat: Page, script: Script) -> None:
    open_notebook(any_chat)
    assert any_chat.locator("#notebook-scroller").evaluate("(box) => box.scrollHeight - box.clientHeight") == 0
    other_ending = any_chat.get_by_role("button", name=word(any_chat, "Other ending", "Autre suite"))
    expect(other_ending).to_be_disabled()
    any_chat.locator("#text").fill("Once upon a time")
    script.say(" it rained.")
    any_chat.get_by_role("button", name=word(any_chat, "Go on", "Continuer")).click()
    expect(any_chat.locator("#text")).to_have_value("Once upon a time it rained.")
    script.say(" it snowed.")
    other_ending.click()
    expect(any_chat.locator("#text")).to_have_value("Once upon a time it snowed.")
    assert [each["prompt"] for each in script.requests] == ["Once upon a time"] * 2
    any_chat.get_by_role("button", name=word(any_chat, "Clear", "Effacer")).click()
    expect(any_chat.locator("#text")).to_have_value("")


def test_a_text_is_stopped_while_it_grows(chat: Page, script: Script) -> None:
    open_notebook(chat)
    script.say(" word" * 500, pause_seconds=0.02)
    chat.locator("#text").fill("A")
    chat.locator("#how-much").select_option("1024")
    chat.locator("#generate").click()
    expect(chat.locator("#text")).to_have_value(re.compile("word word"))
    chat.locator("#stop-text").click()
    expect(chat.locator("#generate")).to_be_visible()
    assert script.requests[-1]["n_predict"] == 1024
    assert len(chat.locator("#text").input_value().split()) < 500
    chat.locator("#take-back").click()
    expect(chat.locator("#text")).to_have_value("A")


def test_everything_is_reached_with_the_keyboard(chat: Page) -> None:
    is_over = chat.locator("#open-menu").is_visible()
    chat.locator("body").press("Control+k")
    expect(chat.locator("#search")).to_be_focused()
    if is_over:
        chat.keyboard.press("Escape")
        expect(chat.locator("#open-menu")).to_be_focused()
    chat.locator(".skip").focus()
    expected = ["open-menu", *PAGE] if is_over else [*LIST, *PAGE]
    reached = []
    for _ in range(25):
        chat.keyboard.press("Tab")
        reached.append(chat.evaluate("document.activeElement.id"))
    assert [each for each in reached if each in expected][: len(expected)] == expected
    chat.locator(".skip").focus()
    chat.keyboard.press("Enter")
    expect(chat.locator("#question")).to_be_focused()
    chat.keyboard.type("one")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("two")
    chat.keyboard.press("Enter")
    expect(chat.locator(".question")).to_have_text("one\ntwo")


def test_motion_is_reduced_where_that_is_wanted(chat: Page, script: Script) -> None:
    chat.emulate_media(reduced_motion="reduce")
    script.say("slow " * 50, waits_after=10)
    chat.locator("#question").fill("Hi")
    chat.locator("#send").click()
    expect(chat.locator("[data-state=growing]")).to_be_visible()
    assert chat.evaluate("document.getAnimations().length") == 0
