"""What a person does on the page."""

import re

from playwright.sync_api import Locator, Page, expect


def word(page: Page, english: str, french: str) -> str:
    """What stands on the page in the language that it is in."""
    return french if page.locator("html").get_attribute("lang") == "fr" else english


def ask(page: Page, question: str) -> Locator:
    """Type a question and send it; return the answer's element."""
    page.locator("#question").fill(question)
    page.locator("#send").click()
    expect(page.locator(".question").last).to_have_text(question)
    return page.locator(".answer").last


def ask_and_wait(page: Page, question: str) -> Locator:
    """The same, until the answer is whole."""
    answer = ask(page, question)
    expect(page.locator("#stop")).to_be_hidden()
    return answer


def click_in_bar(page: Page, message: Locator, name: str | re.Pattern[str]) -> None:
    """Press a button of a message, which shows when the message is pointed at."""
    message.hover()
    message.get_by_role("button", name=name).click()


def open_menu(page: Page) -> None:
    """Make the list of chats visible: on a phone it is behind a button."""
    if page.locator("#open-menu").is_visible() and "has-menu" not in (
        page.locator("body").get_attribute("class") or ""
    ):
        page.locator("#open-menu").click()
        expect(page.locator("#close-menu")).to_be_focused()


def close_menu(page: Page) -> None:
    """Go back to the page behind the list of chats, where that lies over it."""
    if page.locator("#close-menu").is_visible():
        page.locator("#close-menu").click()
        expect(page.locator("#close-menu")).to_be_hidden()


def chat_row(page: Page, title: str) -> Locator:
    return page.locator("#chats li", has_text=title)


def choose_in_menu(page: Page, title: str, index: int) -> None:
    """Open a chat's menu and choose: 0 rename, 1 pin, 2 Markdown, 3 JSON, 4 delete."""
    open_menu(page)
    row = chat_row(page, title)
    row.hover()
    row.locator("button.icon").click()
    page.get_by_role("menuitem").nth(index).click()
