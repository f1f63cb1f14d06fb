"""The page in a real bundle with a real model; what the model says plays no part. All else is driven in tests/page."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.browser import Faults
from tests.e2e.bundle import Process
from tests.page.person import chat_row, open_menu

LONG_QUESTION = "Write a long story about a lighthouse keeper and the sea."


@pytest.fixture
def chat(page: Page) -> Page:
    """The page, opened and ready."""
    page.goto("/")
    expect(page.locator("#bundle-name")).not_to_be_empty()
    expect(page.locator("#notice")).to_be_hidden(timeout=60_000)
    expect(page.locator("#welcome-line")).not_to_be_empty()
    return page


def ask(page: Page, question: str) -> Locator:
    page.locator("#question").fill(question)
    expect(page.locator("#send")).to_be_enabled(timeout=120_000)  # when the files with it are read
    page.keyboard.press("Enter")
    expect(page.locator(".question").last).to_have_text(question)
    return page.locator(".answer").last


def wait_for_text(answer: Locator, longer_than: int = 0) -> int:
    """Wait until the answer is longer than that; return its length."""
    expect(answer).to_have_text(re.compile(rf"^[\s\S]{{{longer_than + 1},}}$"), use_inner_text=False)
    return len(answer.text_content() or "")


def test_the_page_names_its_model_and_loads_from_the_bundle_alone(chat: Page) -> None:
    expect(chat).to_have_title(chat.locator("#bundle-name").inner_text())
    chat.locator("#about-model").click()
    expect(chat.locator("#dialog")).to_contain_text("llama")


def without_end(route: Route) -> None:
    """Send the page's request on, and have its answer last until it is stopped."""
    route.continue_(post_data=json.dumps({**json.loads(route.request.post_data or "{}"), "ignore_eos": True}))


def test_an_answer_arrives_while_it_is_written_and_is_stopped(chat: Page) -> None:
    chat.route("**/v1/chat/completions", without_end)
    answer = ask(chat, LONG_QUESTION)
    first = wait_for_text(answer)
    expect(chat.locator("#stop")).to_be_visible()
    wait_for_text(answer, longer_than=first)
    with chat.expect_event("requestfailed") as failed:
        chat.locator("#stop").click()
    assert failed.value.url.endswith("/v1/chat/completions")
    expect(chat.locator(".note")).to_have_text("You stopped this answer.")
    expect(chat.locator("#question")).to_be_focused()


def test_a_chat_is_found_again_by_another_browser(chat: Page, bundle_server: Process) -> None:
    wait_for_text(ask(chat, "Name a colour."))
    chat.keyboard.press("Escape")
    expect(chat.locator("#stop")).to_be_hidden()
    chat.evaluate("localStorage.clear()")
    chat.goto("/")
    open_menu(chat)
    chat_row(chat, "Name a colour.").first.locator(".open").click()
    expect(chat.locator(".question")).to_have_text("Name a colour.")


def test_files_and_a_long_document_are_asked(
    start: Callable[..., Process], faults: Faults, page: Page, tmp_path: Path
) -> None:
    # A small context: what doesn't fit into it is read within seconds, on slow processors too.
    process = start("--server", "--nobrowser", "-c", "1024", "-n", "32").wait_until_ready()
    faults.forgive(f"request to another origin: {process.url}/")  # this one is the page's own
    (tmp_path / "book.txt").write_text("The sea was calm and nothing happened.\n\n" * 150 + "The lamp is red.")
    page.goto(process.url)
    with page.expect_file_chooser() as chooser:
        page.locator("#attach").click()
    chooser.value.set_files(tmp_path / "book.txt")
    chip = page.locator("#attachments .chip")
    expect(chip).to_contain_text("will be looked up")
    with page.expect_request("**/v1/chat/completions", timeout=180_000) as asked:
        ask(page, "Which colour is the lamp?")
    assert "The lamp is red." in json.loads(asked.value.post_data or "{}")["messages"][-1]["content"]
    wait_for_text(page.locator(".answer").last)


def test_the_notebook_goes_on_with_chances(chat: Page) -> None:
    chat.locator("#mode-notebook").click()
    chat.locator("#text").fill("The capital of France is")
    chat.locator("#how-much").select_option("16")
    chat.locator("#generate").click()
    expect(chat.locator("#generate")).to_be_visible()
    expect(chat.locator("#mirror span").first).to_be_attached()


@pytest.mark.parametrize("name", ["curl", "Python: openai", "LangChain", "Ollama"])
def test_a_snippet_for_programs_runs_as_it_stands(chat: Page, name: str) -> None:
    chat.locator("#open-api").click()
    chat.get_by_role("tab", name=name).click()
    snippet = chat.locator("#snippet").inner_text()
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["sh", "-c", snippet] if name == "curl" else [sys.executable, "-c", snippet]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["choices"][0]["message"]["content"] if name == "curl" else done.stdout
    assert answer.strip()


def test_a_program_with_a_key_asks_for_it(start: Callable[..., Process], faults: Faults, page: Page) -> None:
    faults.forgive("the server responded with a status of 401")
    process = start("--server", "--nobrowser", "--api-key", "open-sesame", "-n", "64").wait_until_ready()
    faults.forgive(f"request to another origin: {process.url}/")  # this one is the page's own
    page.goto(process.url)
    page.locator("#key").fill("open-barley")
    page.keyboard.press("Enter")
    expect(page.locator("#notice-title")).to_have_text("That key is not the right one.")
    page.locator("#key").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_be_hidden()
    wait_for_text(ask(page, "Name a colour."))


def test_quit_ends_the_program(start: Callable[..., Process], faults: Faults, page: Page) -> None:
    process = start().wait_until_ready()
    faults.forgive(f"request to another origin: {process.url}/")  # this one is the page's own
    faults.forgive("net::ERR_CONNECTION_REFUSED")  # once it has ended
    page.goto(process.url)
    expect(page.locator("#welcome-line")).not_to_be_empty()
    assert httpx.post(f"{process.url}/quit").status_code == 403
    page.locator("#open-quit").click()
    page.locator("#dialog .strong").click()
    expect(page.locator("#end")).to_be_visible()
    assert process.process.wait(timeout=30) == 0
