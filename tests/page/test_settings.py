"""A person changes how the model answers."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.page.person import ask_and_wait, open_menu
from tests.page.scripted import Script


@pytest.fixture
def settings(any_chat: Page) -> Page:
    any_chat.locator("#open-settings").click()
    expect(any_chat.locator("#close-settings")).to_be_focused()
    return any_chat


def ask_and_read(page: Page, script: Script) -> dict[str, object]:
    """Ask something; return what the page asked the API for, less the messages."""
    page.locator("#close-settings").click()
    ask_and_wait(page, "Hello")
    return {key: value for key, value in script.requests[-1].items() if key not in ("messages", "stream")}


def test_an_unchanged_setting_is_left_to_the_bundle(settings: Page, script: Script) -> None:
    expect(settings.locator("#setting-temperature")).to_have_value("0.7")
    assert ask_and_read(settings, script) == {}


def test_settings_reach_the_model(settings: Page, script: Script) -> None:
    settings.locator("#setting-system").fill("Answer like a pirate.")
    settings.locator("#setting-temperature").press("ArrowRight")
    for key, value in {"top_k": "5", "top_p": "0.5", "min_p": "0.2", "repeat_penalty": "1.1"}.items():
        settings.locator(f"#setting-{key} + input").fill(value)
        settings.keyboard.press("Tab")
    settings.locator("#setting-seed").fill("7")
    settings.locator("#setting-max_tokens").fill("99")
    settings.locator("#setting-stops").fill("END\n###")
    asked = ask_and_read(settings, script)
    sampling = {"temperature": 0.75, "top_k": 5, "top_p": 0.5, "min_p": 0.2, "repeat_penalty": 1.1, "seed": 7}
    assert asked == {**sampling, "max_tokens": 99, "stop": ["END", "###"]}
    assert script.requests[-1]["messages"][0] == {"role": "system", "content": "Answer like a pirate."}
    expect(settings.locator("#num-changed")).to_have_text("9")


def test_a_box_takes_more_than_its_slider_but_only_what_is_allowed(settings: Page, script: Script) -> None:
    slider, box = settings.locator("#setting-top_p"), settings.locator("#setting-top_p + input")
    expect(slider).to_have_attribute("min", "0.05")
    for written in ("0.01", "1.5"):
        box.fill(written)
        settings.keyboard.press("Tab")
    settings.locator("#setting-seed").fill("4294967296")
    settings.locator("#setting-max_tokens").fill("0")
    assert ask_and_read(settings, script) == {"top_p": 0.01}


def test_a_form_can_be_given(settings: Page, script: Script) -> None:
    settings.locator("#setting-format").select_option("schema")
    settings.locator("#setting-schema").fill("{")
    expect(settings.locator(".wrong")).to_be_visible()
    settings.locator("#setting-schema").fill('{"type": "object"}')
    expect(settings.locator(".wrong")).to_be_hidden()
    asked = ask_and_read(settings, script)
    schema = {"name": "answer", "schema": {"type": "object"}}
    assert asked == {"response_format": {"type": "json_schema", "json_schema": schema}}


def test_a_grammar_can_be_given(settings: Page, script: Script) -> None:
    expect(settings.locator("#setting-grammar")).to_be_hidden()
    settings.locator("#setting-format").select_option("grammar")
    expect(settings.locator("#setting-schema")).to_be_hidden()
    grammar = 'root ::= "yes" | "no"\n'
    settings.locator("#setting-grammar").fill(grammar)
    assert ask_and_read(settings, script) == {"grammar": grammar}


def test_one_setting_and_all_of_them_go_back(settings: Page, script: Script) -> None:
    settings.locator("#setting-seed").fill("7")
    settings.locator("#setting-system").fill("Be brief.")
    settings.get_by_role("button", name=re.compile("Reset System|Réinitialiser Invite")).click()
    expect(settings.locator("#setting-system")).to_have_value("")
    settings.locator("#settings-body > .quiet").click()
    expect(settings.locator("#setting-seed")).to_have_value("")
    assert ask_and_read(settings, script) == {}


def test_a_preset_is_saved_chosen_and_deleted(settings: Page, script: Script) -> None:
    settings.locator("#setting-system").fill("Be brief.")
    settings.locator("#preset-name").fill("Brief")
    settings.keyboard.press("Enter")
    expect(settings.locator("#preset")).to_have_value("Brief")
    settings.locator("#preset").select_option("")
    expect(settings.locator("#setting-system")).to_have_value("")
    settings.reload()
    settings.locator("#open-settings").click()
    settings.locator("#preset").select_option("Brief")
    expect(settings.locator("#setting-system")).to_have_value("Be brief.")
    ask_and_read(settings, script)
    assert script.requests[-1]["messages"][0]["content"] == "Be brief."
    settings.locator("#open-settings").click()
    settings.locator(".preset button.icon").click()
    expect(settings.locator("#preset option[value=Brief]")).to_have_count(0)


def test_settings_stay_with_their_chat(chat: Page, script: Script) -> None:
    chat.locator("#open-settings").click()
    chat.locator("#setting-seed").fill("7")
    ask_and_read(chat, script)
    open_menu(chat)
    chat.locator("#new-chat").click()
    expect(chat.locator("#num-changed")).to_have_text("1")
    chat.locator("#open-settings").click()
    chat.locator("#settings-body > .quiet").click()
    chat.locator("#close-settings").click()
    open_menu(chat)
    chat.locator("#chats .open").first.click()
    chat.locator("#open-settings").click()
    expect(chat.locator("#setting-seed")).to_have_value("7")
