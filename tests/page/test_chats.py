"""A person keeps chats: finds, renames, pins, deletes, takes them along."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Faults
from tests.e2e.bundle import wait_until
from tests.page.person import ask_and_wait, chat_row, choose_in_menu, click_in_bar, close_menu, open_menu, word
from tests.page.scripted import Script, message


@pytest.fixture(autouse=True)
def kept(script: Script) -> None:
    for index, title in enumerate(["Lisbon", "Leeks", "Latin"]):
        script.keep(
            message(f"q{index}", "user", f"About {title}?"),
            message(f"a{index}", "assistant", f"All about **{title}**.", f"q{index}"),
            title=title,
            id=title.lower(),
        )


def wait_until_kept(script: Script, chat_id: str, contents: list[str]) -> None:
    """Wait until the program has these messages: the page saves them just after it shows them."""

    def is_kept() -> bool:
        chat = script.chats.get(chat_id, {"messages": []})
        return [each["content"] for each in chat["messages"]] == contents

    wait_until(is_kept, 15, "saving the chat")


def test_a_kept_chat_is_opened_and_goes_on(any_chat: Page, script: Script) -> None:
    open_menu(any_chat)
    any_chat.get_by_role("button", name="Leeks", exact=True).click()
    expect(any_chat.locator(".answer")).to_have_text("All about Leeks.")
    ask_and_wait(any_chat, "More")
    wait_until_kept(script, "leeks", ["About Leeks?", "All about **Leeks**.", "More", "Hello from the model."])


def test_a_new_chat_gets_its_title_from_its_question(any_chat: Page, script: Script) -> None:
    ask_and_wait(any_chat, "Where does rain come from?")
    open_menu(any_chat)
    expect(chat_row(any_chat, "Where does rain come from?")).to_be_visible()
    any_chat.locator("#new-chat").click()
    expect(any_chat.locator("#welcome")).to_be_visible()


def test_search_finds_words_inside_messages(any_chat: Page) -> None:
    open_menu(any_chat)
    any_chat.locator("#search").fill("about latin")
    expect(any_chat.locator("[data-chat]")).to_have_count(1)
    any_chat.locator("#search").fill("nothing like it")
    expect(any_chat.locator("#no-chats")).to_be_visible()


def test_a_chat_is_renamed(any_chat: Page, script: Script) -> None:
    choose_in_menu(any_chat, "Leeks", 0)
    any_chat.locator(".rename").fill("Soups")
    any_chat.keyboard.press("Enter")
    expect(chat_row(any_chat, "Soups")).to_be_visible()
    expect(chat_row(any_chat, "Soups").locator(".open")).to_be_focused()
    assert any_chat.evaluate("location.hash") == "", "it is renamed, not opened"
    assert script.chats["leeks"]["title"] == "Soups"


def test_a_pinned_chat_comes_first(any_chat: Page, script: Script) -> None:
    choose_in_menu(any_chat, "Lisbon", 1)
    expect(any_chat.locator("[data-chat]").first).to_contain_text("Lisbon")
    assert script.chats["lisbon"]["is_pinned"] is True


def test_a_deleted_chat_can_be_brought_back(any_chat: Page, script: Script) -> None:
    choose_in_menu(any_chat, "Latin", 4)
    expect(chat_row(any_chat, "Latin")).to_have_count(0)
    assert "latin" not in script.chats
    any_chat.locator(".toast button").click()
    expect(any_chat.locator(".answer")).to_have_text("All about Latin.")
    assert "latin" in script.chats


def test_a_chat_is_saved_as_markdown_and_json(chat: Page, tmp_path: Path) -> None:
    with chat.expect_download() as download:
        choose_in_menu(chat, "Leeks", 2)
    assert download.value.suggested_filename == "Leeks.md"
    download.value.save_as(tmp_path / "it.md")
    you, model = word(chat, "You", "Vous"), word(chat, "Model", "Modèle")
    told = f"# Leeks\n\n**{you}**\n\nAbout Leeks?\n\n**{model}**\n\nAll about **Leeks**.\n"
    assert (tmp_path / "it.md").read_text() == told
    with chat.expect_download() as download:
        choose_in_menu(chat, "Leeks", 3)
    download.value.save_as(tmp_path / "it.json")
    assert json.loads((tmp_path / "it.json").read_text())["chats"][0]["title"] == "Leeks"


def test_all_chats_are_taken_along_and_brought_in(any_chat: Page, script: Script, tmp_path: Path) -> None:
    open_menu(any_chat)
    any_chat.locator("#open-preferences").click()
    with any_chat.expect_download() as download:
        any_chat.locator("#dialog .row .quiet").first.click()
    download.value.save_as(tmp_path / "all.json")
    assert len(json.loads((tmp_path / "all.json").read_text())["chats"]) == 3
    with any_chat.expect_file_chooser() as chooser:
        any_chat.locator("#dialog .row .quiet").last.click()
    chooser.value.set_files(tmp_path / "all.json")
    expect(any_chat.locator(".toast")).to_contain_text("3")
    assert len(script.chats) == 6
    any_chat.keyboard.press("Escape")
    copies = any_chat.get_by_role("button", name="Leeks", exact=True)
    expect(copies).to_have_count(2)
    for index in range(2):
        open_menu(any_chat)
        copies.nth(index).click()
        expect(any_chat.locator(".question")).to_have_text("About Leeks?")
        expect(any_chat.locator(".answer")).to_have_text("All about Leeks.")


def test_a_file_that_holds_no_chats_is_refused_in_words(chat: Page, tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_text('["cat"]')
    open_menu(chat)
    chat.locator("#open-preferences").click()
    with chat.expect_file_chooser() as chooser:
        chat.locator("#dialog .row .quiet").last.click()
    chooser.value.set_files(tmp_path / "cat.json")
    expect(chat.locator(".toast")).to_contain_text(word(chat, "not a file of chats", "pas un fichier de conversations"))


def test_two_chats_are_answered_at_once(chat: Page, script: Script) -> None:
    slow = script.say("slow " * 100, waits_after=20)
    chat.locator("#question").fill("Take your time")
    chat.locator("#send").click()
    expect(chat.locator(".answer")).to_contain_text("slow")
    open_menu(chat)
    chat.locator("#new-chat").click()
    open_menu(chat)
    expect(chat.locator(".pulse")).to_be_visible()
    close_menu(chat)
    ask_and_wait(chat, "Quick one")
    open_menu(chat)
    chat_row(chat, "Take your time").locator(".open").click()
    expect(chat.locator("#stop")).to_be_visible()
    slow.may_go_on.set()
    expect(chat.locator("#stop")).to_be_hidden()
    expect(chat.locator(".answer")).to_have_text(re.compile(r"^(slow ?){100}$"))


def test_without_history_chats_live_as_long_as_the_page(chat: Page, script: Script) -> None:
    script.face["has_history"] = False
    chat.reload()
    open_menu(chat)
    expect(chat.locator("#no-history")).to_be_visible()
    close_menu(chat)
    ask_and_wait(chat, "Remember me")
    open_menu(chat)
    chat.locator("#new-chat").click()
    open_menu(chat)
    chat_row(chat, "Remember me").locator(".open").click()
    expect(chat.locator(".question")).to_have_text("Remember me")
    assert "Remember me" not in json.dumps(script.chats)


def test_why_there_is_no_history_is_there_to_be_read(chat: Page, script: Script) -> None:
    script.face |= {"has_history": False, "history_problem": "it belongs to <b>another</b> user"}
    chat.reload()
    open_menu(chat)
    expect(chat.locator("#no-history")).to_contain_text("it belongs to <b>another</b> user")


def test_what_could_not_be_saved_is_saved_when_the_program_is_back(chat: Page, script: Script, faults: Faults) -> None:
    faults.forgive("net::ERR_CONNECTION_REFUSED")
    chat.route("**/chats/**", lambda route: route.abort("connectionrefused"))
    ask_and_wait(chat, "Keep this")
    assert "Keep this" not in json.dumps(script.chats)
    chat.unroute("**/chats/**")
    script.health = {"error": {"message": "Loading model"}, "progress": 0.5}
    expect(chat.locator("#notice")).to_be_visible()
    script.health = None
    expect(chat.locator("#notice")).to_be_hidden()
    open_menu(chat)
    expect(chat_row(chat, "Keep this")).to_be_visible()
    assert "Keep this" in json.dumps(script.chats)


def test_a_chat_that_was_deleted_elsewhere_is_kept_again(chat: Page, script: Script, faults: Faults) -> None:
    faults.forgive("the server responded with a status of 400")
    faults.forgive("the server responded with a status of 404")
    open_menu(chat)
    chat.get_by_role("button", name="Leeks", exact=True).click()
    expect(chat.locator(".answer")).to_have_text("All about Leeks.")
    script.forget("leeks")
    ask_and_wait(chat, "More")
    wait_until_kept(script, "leeks", ["About Leeks?", "All about **Leeks**.", "More", "Hello from the model."])
    expect(chat.locator("#unsaved")).to_be_hidden()


def test_a_chat_that_the_program_refuses_is_told_and_not_sent_again(any_chat: Page, faults: Faults) -> None:
    faults.forgive("the server responded with a status of 413")
    refused = []

    def refuse(route: Route) -> None:
        if route.request.method == "PUT":
            refused.append(route.request.url)
            route.fulfill(status=413, json={"error": {"message": "the chat is too large", "code": 413}})
        else:
            route.continue_()

    any_chat.route("**/chats/**", refuse)
    ask_and_wait(any_chat, "One")
    expect(any_chat.locator(".toast")).to_contain_text("the chat is too large")
    expect(any_chat.locator("#unsaved")).to_be_visible()
    num_refused = len(refused)
    ask_and_wait(any_chat, "Two")
    with any_chat.expect_download() as download:
        any_chat.locator(".toast button").click()
    messages = json.loads(Path(download.value.path()).read_text())["chats"][0]["messages"]
    assert [each["content"] for each in messages[::2]] == ["One", "Two"]
    assert len(refused) == num_refused
    any_chat.unroute("**/chats/**")
    click_in_bar(any_chat, any_chat.locator(".from-reader").last, re.compile("Delete|Supprimer"))
    expect(any_chat.locator("#unsaved")).to_be_hidden()
