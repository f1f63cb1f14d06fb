"""A person talks with the model."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import Faults
from tests.e2e.bundle import wait_until
from tests.page.person import ask, ask_and_wait, click_in_bar, word
from tests.page.scripted import Script

IS_AT_END = """() => {
    const transcript = document.querySelector("#transcript");
    return transcript.scrollHeight - transcript.clientHeight - transcript.scrollTop < 3;
}"""


def roles(script: Script, request: int = -1) -> list[str]:
    return [message["role"] for message in script.requests[request]["messages"]]


def test_a_question_is_answered_and_followed_by_another(any_chat: Page, script: Script) -> None:
    script.say("The *first* answer.")
    script.say("The **second**.")
    expect(ask_and_wait(any_chat, "One?")).to_have_text("The first answer.")
    expect(ask_and_wait(any_chat, "Two?")).to_have_text("The second.")
    assert roles(script) == ["user", "assistant", "user"]
    expect(any_chat.locator("#welcome")).to_be_hidden()
    assert any_chat.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_answer_grows_and_can_be_stopped_and_continued(any_chat: Page, script: Script) -> None:
    script.say("word " * 400, waits_after=40)
    answer = ask(any_chat, "Go on for long")
    expect(answer).to_contain_text("word word word")
    any_chat.keyboard.press("Escape")
    note = any_chat.locator(".note")
    expect(note).to_be_visible()
    expect(any_chat.locator("#send")).to_be_visible()
    script.say("and that was all.")
    click_in_bar(any_chat, any_chat.locator(".from-model"), re.compile("Contin"))
    expect(answer).to_contain_text("and that was all.")
    expect(note).to_be_hidden()
    assert roles(script) == ["user", "assistant"]
    assert script.requests[-1]["continue_final_message"] is True
    assert script.requests[-1]["messages"][1]["content"].startswith("word word")


def test_a_cut_answer_says_so_and_goes_on_where_it_ended(chat: Page, script: Script) -> None:
    script.say("Half a sen", finish_reason="length")
    answer = ask_and_wait(chat, "Tell me")
    expect(chat.locator(".note")).to_contain_text(word(chat, "length limit", "longueur maximale"))
    script.say("tence.")
    click_in_bar(chat, chat.locator(".from-model"), word(chat, "Continue", "Continuer"))
    expect(answer).to_have_text("Half a sentence.")


def test_an_answer_asked_for_again_is_another_version(any_chat: Page, script: Script) -> None:
    script.say("First try.")
    ask_and_wait(any_chat, "Try")
    script.say("Second try.")
    click_in_bar(any_chat, any_chat.locator(".from-model"), re.compile("again|nouveau"))
    expect(any_chat.locator(".answer")).to_have_text("Second try.")
    expect(any_chat.locator(".versions")).to_contain_text("2/2")
    click_in_bar(any_chat, any_chat.locator(".from-model"), re.compile("Previous|précédente"))
    expect(any_chat.locator(".answer")).to_have_text("First try.")
    click_in_bar(any_chat, any_chat.locator(".from-model"), re.compile("Next|suivante"))
    expect(any_chat.locator(".answer")).to_have_text("Second try.")


def test_an_edited_question_branches_and_both_branches_stay(any_chat: Page, script: Script) -> None:
    script.say("About cats.")
    ask_and_wait(any_chat, "Cats?")
    script.say("More cats.")
    ask_and_wait(any_chat, "More?")
    script.say("About dogs.")
    click_in_bar(any_chat, any_chat.locator(".from-reader").first, re.compile("Edit|Modifier"))
    any_chat.locator(".editor textarea").fill("Dogs?")
    any_chat.keyboard.press("Enter")
    expect(any_chat.locator(".answer")).to_have_text(["About dogs."])
    assert roles(script) == ["user"]
    click_in_bar(any_chat, any_chat.locator(".from-reader").first, re.compile("Previous|précédente"))
    expect(any_chat.locator(".answer")).to_have_text(["About cats.", "More cats."])
    any_chat.reload()
    expect(any_chat.locator(".answer")).to_have_text(["About cats.", "More cats."])


def test_arrow_up_edits_the_last_question_and_escape_leaves_it(chat: Page) -> None:
    ask_and_wait(chat, "Helo?")
    chat.locator("#question").press("ArrowUp")
    expect(chat.locator(".editor textarea")).to_have_value("Helo?")
    expect(chat.locator(".editor textarea")).to_be_focused()
    chat.keyboard.press("Escape")
    expect(chat.locator(".question")).to_have_text("Helo?")


def test_deleting_a_message_takes_what_hangs_below_and_can_be_undone(any_chat: Page, script: Script) -> None:
    ask_and_wait(any_chat, "One")
    ask_and_wait(any_chat, "Two")
    click_in_bar(any_chat, any_chat.locator(".from-reader").last, re.compile("Delete|Supprimer"))
    expect(any_chat.locator(".question")).to_have_text(["One"])
    any_chat.locator(".toast button").click()
    expect(any_chat.locator(".question")).to_have_text(["One", "Two"])
    any_chat.reload()
    expect(any_chat.locator(".question")).to_have_text(["One", "Two"])


def test_thinking_is_folded_away_and_can_be_read(any_chat: Page, script: Script) -> None:
    script.say("Forty-two.", reasoning="Six by nine, or seven by six?")
    ask_and_wait(any_chat, "What is it?")
    thoughts = any_chat.locator(".thoughts")
    expect(thoughts.locator("div")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator("div")).to_have_text("Six by nine, or seven by six?")
    expect(any_chat.locator(".answer")).to_have_text("Forty-two.")


def test_speed_is_told_when_an_answer_is_pointed_at(chat: Page) -> None:
    ask_and_wait(chat, "Quick?")
    statistics = chat.locator(".statistics")
    chat.locator("header").hover()
    expect(statistics).to_have_css("opacity", "0")
    chat.locator(".from-model").hover()
    expect(statistics).to_have_css("opacity", "1")
    expect(statistics).to_contain_text(word(chat, "41.5 tokens/s", "41,5 jetons/s"))
    expect(statistics).to_contain_text(word(chat, "first after", "le premier après"))


def test_a_message_and_code_are_copied_as_they_were_written(chat: Page, script: Script) -> None:
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text = "Here **it** is:\n\n```python\nif x:\n    y()\n```"
    script.say(text)
    ask_and_wait(chat, "Code?")
    chat.get_by_role("button", name=word(chat, "Copy code", "Copier le code")).click()
    expect(chat.get_by_role("button", name=word(chat, "Copied", "Copié"))).to_be_visible()
    assert chat.evaluate("navigator.clipboard.readText()") == "if x:\n    y()"
    click_in_bar(chat, chat.locator(".from-model"), re.compile(word(chat, "^Copy$", "^Copier$")))
    assert chat.evaluate("navigator.clipboard.readText()") == text


def test_markdown_becomes_elements(chat: Page, script: Script) -> None:
    script.say(
        "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done\n- two\n\n"
        "```js\nlet a = 1; // why\n```\n\n$$\n\\frac{a}{b}\n$$"
    )
    answer = ask_and_wait(chat, "Show")
    expect(answer.get_by_role("heading", name="Title")).to_be_visible()
    expect(answer.locator("td")).to_have_text(["1", "2"])
    expect(answer.locator("input[type=checkbox]")).to_be_checked()
    expect(answer.locator(".of-comment")).to_have_text("// why")
    expect(answer.locator("mfrac")).to_have_count(1)


def test_the_view_follows_until_the_reader_scrolls_up(any_chat: Page, script: Script) -> None:
    lines = script.say("A line.\n\n" * 200, piece_length=9, waits_after=80)
    ask(any_chat, "Long")
    expect(any_chat.locator(".answer p").nth(60)).to_be_attached()
    any_chat.wait_for_function(IS_AT_END)
    expect(any_chat.locator("#to-end")).to_be_hidden()
    any_chat.locator("#transcript").hover()
    any_chat.mouse.wheel(0, -400)
    expect(any_chat.locator("#to-end")).to_be_visible()
    top = any_chat.evaluate("document.querySelector('#transcript').scrollTop")
    lines.may_go_on.set()
    expect(any_chat.locator(".answer p").nth(120)).to_be_attached()
    # The wheel may still be turning, upwards; following would go down.
    assert any_chat.evaluate("document.querySelector('#transcript').scrollTop") <= top
    any_chat.locator("#to-end").click()
    any_chat.wait_for_function(IS_AT_END)


def test_an_answer_that_breaks_off_can_be_asked_for_again(any_chat: Page, script: Script) -> None:
    script.say("", error=(500, {"type": "server_error", "message": "the lamp went out"}))
    ask_and_wait(any_chat, "Hello")
    expect(any_chat.get_by_role("alert").filter(visible=True)).to_contain_text("the lamp went out")
    script.say("Now it burns.")
    any_chat.locator(".trouble button").click()
    expect(any_chat.locator(".answer")).to_have_text(["Now it burns."])
    expect(any_chat.locator(".versions")).to_have_count(0)


@pytest.fixture(autouse=True)
def errors_that_tests_bring_about(faults: Faults) -> None:
    faults.forgive("console, v1/chat/completions: Failed to load resource")


def test_a_full_context_is_told_with_its_numbers(chat: Page, script: Script) -> None:
    ask_and_wait(chat, "Hello")
    full = {"type": "exceed_context_size_error", "message": "full", "n_prompt_tokens": 5120, "n_ctx": 4096}
    script.say("", error=(400, full))
    ask_and_wait(chat, "And then?")
    trouble = chat.locator(".trouble").filter(visible=True)
    expect(trouble).to_contain_text(word(chat, "5,120", "5\u202f120"))
    trouble.get_by_role("button", name=word(chat, "New chat", "Nouvelle conversation")).click()
    expect(chat.locator("#welcome")).to_be_visible()


def is_kept(script: Script, beginning: str) -> bool:
    messages = [message for chat in script.chats.values() for message in chat["messages"]]
    return any(message["content"].startswith(beginning) for message in messages)


def test_a_page_that_closed_in_the_middle_offers_to_go_on(chat: Page, script: Script) -> None:
    script.say("One sentence. " * 300, waits_after=150)
    answer = ask(chat, "Long")
    expect(answer).to_contain_text("One sentence. One")
    chat.wait_for_function("() => document.querySelector('.answer').textContent.length > 600")
    wait_until(lambda: is_kept(script, "One sentence. " * 10), 15, "saving what is written so far")
    chat.reload()
    expect(chat.locator(".note")).to_contain_text(word(chat, "broke off", "interrompue"))
    assert len(chat.locator(".answer").text_content() or "") > 100
    expect(chat.get_by_role("button", name=word(chat, "Continue", "Continuer"))).to_be_visible()


def test_right_to_left_text_stands_on_the_right(chat: Page, script: Script) -> None:
    script.say("مرحبا بك في هذه الصفحة.")
    answer = ask_and_wait(chat, "مرحبا")
    assert answer.locator("p").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert chat.locator(".question").evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_long_words_and_code_fit_the_screen(chat: Page, script: Script) -> None:
    width = chat.evaluate("innerWidth")
    script.say("x" * 500 + "\n\n```\n" + "y" * 500 + "\n```\n\n| a | b |\n|---|---|\n| " + "long " * 40 + "| z |")
    ask_and_wait(chat, "z" * 200)
    assert chat.evaluate("document.documentElement.scrollWidth") == width
    assert chat.evaluate("document.querySelector('#transcript').scrollWidth") <= width
