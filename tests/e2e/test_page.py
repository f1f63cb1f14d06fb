"""A person's path through the page, in a real browser; what the model says plays no part."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.e2e.browser import PHONE, Faults

LONG_QUESTION = "Write a long story about a lighthouse keeper and the sea."
CHAT = "**/v1/chat/completions"
HEALTH = "**/health"
IS_AT_END = """() => {
    const transcript = document.querySelector("#transcript");
    return transcript.scrollHeight - transcript.clientHeight - transcript.scrollTop < 3;
}"""


@pytest.fixture
def chat(page: Page) -> Page:
    """The page, opened and ready."""
    page.goto("/")
    expect(page.locator("#model-name")).not_to_be_empty()
    expect(page.locator("#notice")).to_be_hidden(timeout=60_000)
    return page


def ask(page: Page, question: str) -> Locator:
    """Type a question as a person does; return the answer's element."""
    page.get_by_role("textbox").fill(question)
    page.keyboard.press("Enter")
    expect(page.locator(".question").last).to_have_text(question)
    return page.locator(".answer").last


def wait_for_text(answer: Locator, longer_than: int = 0) -> int:
    """Wait until the answer is longer than that; return its length."""
    expect(answer).to_have_text(re.compile(rf"^[\s\S]{{{longer_than + 1},}}$"), use_inner_text=False)
    return len(answer.text_content() or "")


def stop_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop", exact=True)


def height_of(element: Locator) -> float:
    box = element.bounding_box()
    assert box is not None
    return box["height"]


def messages_of(request: Request) -> list[dict[str, str]]:
    assert request.post_data is not None
    messages: list[dict[str, str]] = json.loads(request.post_data)["messages"]
    return messages


def with_answer(text: str) -> Callable[[Route], None]:
    """A reply as the API streams it, for a text that no model can be asked for."""
    chunks: list[dict[str, object]] = [{"choices": [{"delta": {"content": text}, "finish_reason": None}]}]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body)


def with_error(status: int, **error: object) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, json={"error": {"code": status, **error}})


def test_the_page_names_its_model(chat: Page) -> None:
    name = chat.locator("#model-name").inner_text()
    expect(chat).to_have_title(name)
    expect(chat.locator("#welcome")).to_contain_text(name)


def test_an_answer_arrives_while_it_is_written(chat: Page) -> None:
    answer = ask(chat, LONG_QUESTION)
    expect(stop_button(chat)).to_be_visible()
    first = wait_for_text(answer)
    expect(stop_button(chat)).to_be_visible()
    assert wait_for_text(answer, longer_than=first) > first


@pytest.mark.parametrize(
    "press_stop",
    [lambda page: stop_button(page).click(), lambda page: page.keyboard.press("Escape")],
    ids=["button", "escape"],
)
def test_stopping_closes_the_connection_and_keeps_the_text(chat: Page, press_stop: Callable[[Page], None]) -> None:
    answer = ask(chat, LONG_QUESTION)
    wait_for_text(answer)
    with chat.expect_event("requestfailed") as failed:
        press_stop(chat)
    assert failed.value.url.endswith("/v1/chat/completions")
    expect(chat.locator(".note")).to_have_text("You stopped this answer.")
    expect(stop_button(chat)).to_be_hidden()
    assert answer.text_content()
    expect(chat.get_by_role("textbox")).to_be_focused()


def test_a_stopped_chat_goes_on_with_its_history(chat: Page) -> None:
    wait_for_text(ask(chat, LONG_QUESTION))
    stop_button(chat).click()
    with chat.expect_request(CHAT) as asked:
        second = ask(chat, "And then?")
    assert [message["role"] for message in messages_of(asked.value)] == ["user", "assistant", "user"]
    wait_for_text(second)
    expect(chat.locator(".exchange")).to_have_count(2)


def test_a_new_chat_forgets_the_old_one_and_stops_its_answer(chat: Page) -> None:
    wait_for_text(ask(chat, LONG_QUESTION))
    with chat.expect_event("requestfailed"):
        chat.get_by_role("button", name="New chat").click()
    expect(chat.locator(".exchange")).to_have_count(0)
    expect(chat.locator("#welcome")).to_be_visible()
    with chat.expect_request(CHAT) as asked:
        answer = ask(chat, "Hello")
    assert messages_of(asked.value) == [{"role": "user", "content": "Hello"}]
    wait_for_text(answer)


def test_shift_enter_starts_a_new_line_and_the_box_grows(chat: Page) -> None:
    box = chat.get_by_role("textbox")
    height = height_of(box)
    box.press_sequentially("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("one\ntwo")
    expect(chat.locator(".exchange")).to_have_count(0)
    assert height_of(box) > height


def test_model_text_is_shown_and_never_run(chat: Page) -> None:
    hostile = (
        "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>\n\n```html\n<b>x</b>\n```"
    )
    title = chat.title()
    chat.route(CHAT, with_answer(hostile))
    answer = ask(chat, "Hello")
    expect(answer.locator("p")).to_have_text(hostile.split("\n")[0])
    expect(answer.locator("pre")).to_have_text("<b>x</b>")
    assert answer.locator("img, script, b").count() == 0
    assert chat.title() == title


def test_code_is_copied_whole(chat: Page) -> None:
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.route(CHAT, with_answer("Here:\n\n```python\nif x:\n    y()\n```\n"))
    ask(chat, "Hello")
    chat.get_by_role("button", name="Copy").click()
    expect(chat.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.evaluate("navigator.clipboard.readText()") == "if x:\n    y()"


def test_the_view_follows_the_answer_until_the_reader_scrolls_up(chat: Page) -> None:
    chat.set_viewport_size({"width": 390, "height": 420})
    chat.route(CHAT, with_answer("A line.\n\n" * 100))
    ask(chat, "Hello")
    expect(stop_button(chat)).to_be_hidden()
    chat.wait_for_function(IS_AT_END)
    to_end = chat.get_by_role("button", name="Go to the latest text")
    expect(to_end).to_be_hidden()
    chat.locator("#transcript").hover()
    chat.mouse.wheel(0, -200)
    expect(to_end).to_be_visible()
    to_end.click()
    chat.wait_for_function(IS_AT_END)
    expect(to_end).to_be_hidden()


def test_an_api_error_is_told_in_words_and_can_be_tried_again(chat: Page, faults: Faults) -> None:
    faults.forgive("console, v1/chat/completions: Failed to load resource")
    chat.route(CHAT, with_error(500, type="server_error", message="the lamp went out"))
    answer = ask(chat, "Hello")
    expect(chat.get_by_role("alert")).to_contain_text("the lamp went out")
    chat.unroute(CHAT)
    chat.get_by_role("button", name="Try again").click()
    wait_for_text(answer)
    expect(chat.get_by_role("alert")).to_have_count(0)
    expect(chat.locator(".exchange")).to_have_count(1)


def test_a_full_context_asks_for_a_new_chat(chat: Page, faults: Faults) -> None:
    faults.forgive("console, v1/chat/completions: Failed to load resource")
    wait_for_text(ask(chat, "Hello"))
    chat.keyboard.press("Escape")
    full = with_error(400, type="exceed_context_size_error", message="full", n_prompt_tokens=5120, n_ctx=4096)
    chat.route(CHAT, full)
    ask(chat, "And then?")
    trouble = chat.get_by_role("alert")
    expect(trouble).to_contain_text("5,120")
    trouble.get_by_role("button", name="New chat").click()
    expect(chat.locator(".exchange")).to_have_count(0)


def test_loading_is_shown_until_the_model_is_ready(page: Page) -> None:
    progress = {"error": {"code": 503, "message": "Loading model"}, "status": "loading model", "progress": 0.42}
    page.route(HEALTH, lambda route: route.fulfill(status=503, json=progress))
    page.goto("/")
    expect(page.locator("#notice")).to_contain_text("42%")
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 0.42)
    page.unroute(HEALTH)
    expect(page.locator("#notice")).to_be_hidden()


def test_a_server_that_is_gone_is_noticed_and_so_is_its_return(chat: Page, faults: Faults) -> None:
    faults.forgive("net::ERR_CONNECTION_REFUSED")
    chat.route("**/*", lambda route: route.abort("connectionrefused"))
    expect(chat.locator("#notice")).to_contain_text("isn\u2019t running")
    chat.get_by_role("textbox").fill("Hello")
    expect(chat.get_by_role("button", name="Send")).to_be_disabled()
    chat.unroute("**/*")
    expect(chat.locator("#notice")).to_be_hidden()
    wait_for_text(ask(chat, "Hello"))


def test_a_question_typed_on_a_phone_fits_its_screen(chat: Page) -> None:
    chat.set_viewport_size(PHONE)
    chat.route(CHAT, with_answer("x" * 500 + "\n\n```\n" + "y" * 500 + "\n```"))
    wait_for_text(ask(chat, "z" * 200))
    assert chat.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert chat.evaluate("document.querySelector('#transcript').scrollWidth") <= PHONE["width"]
