"""The files as a bundle carries them, which all tests of this folder drive."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from runtime.server.page.files import WEBCLIENT

# Of a variable the browser keeps the text, where other values are written in its own way.
RULES = """(text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return [...sheet.cssRules].map((rule) => rule.cssText.replace(/,\\s+/g, ","));
}"""


@pytest.fixture
def chat(desktop_chat: Page) -> Page:
    return desktop_chat


def test_every_style_says_what_its_source_says(chat: Page, packed_page: Path) -> None:
    for path in sorted(WEBCLIENT.rglob("*.css")):
        rules = chat.evaluate(RULES, path.read_text())
        assert rules, path
        assert chat.evaluate(RULES, (packed_page / path.relative_to(WEBCLIENT)).read_text()) == rules, path


def test_the_page_is_driven_as_it_is_packed(chat: Page) -> None:
    script = chat.request.get("/app.js").text()
    assert script != (WEBCLIENT / "app.js").read_text()
    assert "export" in chat.request.get("/workspace.js").text()
