"""Long answers and many chats. How fast they are is measured by benchmarks/page.py."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.page.long_texts import SHAPES, keep_many, long_answer
from tests.page.person import ask
from tests.page.scripted import Script


@pytest.fixture
def chat(desktop_chat: Page) -> Page:
    return desktop_chat


@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_thousand_tokens_arrive_whole(chat: Page, script: Script, shape: str) -> None:
    text = long_answer(20_000, SHAPES[shape]) + " The end."
    script.say(text, pause_seconds=0.0005, piece_length=16)
    answer = ask(chat, "Write for long")
    expect(chat.locator("#stop")).to_be_hidden(timeout=120_000)
    expect(answer).to_contain_text("The end.")
    words = re.findall(r"[a-z]+", answer.inner_text().replace("Copy", "").replace("python", ""))
    assert len(words) == pytest.approx(len(re.findall(r"[a-z]+", text.replace("python", ""))), rel=0.01)


def test_what_is_finished_of_an_answer_is_left_alone(chat: Page, script: Script) -> None:
    script.say(long_answer(2_000, SHAPES["mixed"]), pause_seconds=0.002, piece_length=16)
    answer = ask(chat, "Write for long")
    first = answer.locator("p").first
    expect(answer.locator("pre").first).to_be_visible()
    first.evaluate("(element) => { window.finished = element; }")
    expect(chat.locator("#stop")).to_be_hidden(timeout=60_000)
    assert chat.evaluate("window.finished.isConnected")


def test_five_hundred_chats_are_listed_searched_and_opened(page: Page, script: Script) -> None:
    keep_many(script, 500)
    page.goto("/")
    expect(page.locator("[data-chat]")).to_have_count(500)
    page.locator("#search").fill("number 321")
    expect(page.locator("[data-chat]")).to_have_count(1)
    page.locator("[data-chat]").first.click()
    expect(page.locator(".question")).to_have_text("Question 321")
