"""axe-core finds no serious fault in the page's main states; it comes from npm, once, into the cache."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import DESKTOP, PHONE
from tests.page.person import ask_and_wait, open_menu
from tests.page.scripted import Script, message

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
    cache = Path(os.environ.get("HOLDALL_CACHE", Path.home() / ".cache" / "holdall")) / "npm" / AXE.replace("@", "-")
    source = cache / "node_modules" / "axe-core" / "axe.min.js"
    npm = shutil.which("npm")
    if not source.is_file():
        if npm is None:
            pytest.skip("npm is not installed, and axe-core is not in the cache")
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(cache), "--ignore-scripts", "--no-audit", "--no-fund", AXE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"axe-core can't be had: {done.stderr[-200:]}")
    return source.read_text()


def with_answer(page: Page) -> None:
    ask_and_wait(page, "Show me")
    page.locator(".from-model").hover()


def with_menu(page: Page) -> None:
    open_menu(page)
    page.locator("#chats li button.icon").first.click()


def in_notebook(page: Page) -> None:
    open_menu(page)
    page.locator("#mode-notebook").click()
    page.locator("#text").fill("Once")


def with_api(page: Page) -> None:
    open_menu(page)
    page.locator("#open-api").click()


STATES: dict[str, Callable[[Page], object]] = {
    "welcome": lambda page: None,
    "answer": with_answer,
    "list": open_menu,
    "menu": with_menu,
    "settings": lambda page: page.locator("#open-settings").click(),
    "card": lambda page: page.locator("#about-model").click(),
    "api": with_api,
    "notebook": in_notebook,
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(page: Page, script: Script, axe: str, size: dict[str, int], scheme: str) -> None:
    found = {}
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    script.keep(message("q", "user", "hi"), message("a", "assistant", "yo", "q"), title="Kept")
    for name, go in STATES.items():
        page.goto("about:blank")
        page.goto("/")
        expect(page.locator("#welcome-line")).not_to_be_empty()
        expect(page.locator("#chats li").first).to_be_attached()
        script.say(ANSWER, reasoning="Hm.")
        go(page)
        page.evaluate(axe)
        violations = page.evaluate(RUN_AXE)
        script.answers.clear()
        if violations:
            found[name] = violations
    assert found == {}
