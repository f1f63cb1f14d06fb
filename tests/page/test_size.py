"""Long answers and many chats: the page does the work it must and not the work of everything before.

Times are recorded as properties of the tests, so that a report shows them; the share of long tasks alone is held.
"""

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.page.person import ask
from tests.page.scripted import Script, message

WATCH = """() => {
    window.longTasks = [];
    new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({
        entryTypes: ["longtask"],
    });
    window.frames = [];
    let last = performance.now();
    const tick = (now) => { frames.push(now - last); last = now; requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
}"""
PARAGRAPH = "The **keeper** climbed the stairs, `lamp` in hand, and looked out over the *dark* water once more.\n\n"
LIST = "".join(f"{number}. A line of the list, with **weight** on some words.\n" for number in range(1, 21)) + "\n"
CODE = (
    "```python\n" + "".join(f"value_{number} = compute({number}, 'text')  # why\n" for number in range(40)) + "```\n\n"
)


def long_answer(num_tokens: int, parts: list[str]) -> str:
    text = ""
    index = 0
    while len(text) < num_tokens * 4:
        text += parts[index % len(parts)]
        index += 1
    return text[: num_tokens * 4]


@pytest.mark.parametrize(
    "parts",
    [[PARAGRAPH, LIST, CODE], [PARAGRAPH], [LIST.strip() + "\n"], [PARAGRAPH.strip() + " "]],
    ids=["mixed", "text", "list", "line"],
)
def test_twenty_thousand_tokens_stream_without_long_tasks(
    chat: Page, script: Script, parts: list[str], record_property: Callable[[str, object], None]
) -> None:
    text = long_answer(20_000, parts)
    script.say(text, pause_seconds=0.0005, piece_length=4)
    chat.evaluate(WATCH)
    ask(chat, "Write for long")
    expect(chat.locator("#stop")).to_be_hidden(timeout=120_000)
    tasks = sorted(chat.evaluate("longTasks"))
    # Every task shorter than 50 ms is missing from the list; each frame had at least one task.
    num_tasks = max(chat.evaluate("frames.length"), len(tasks), 1)
    shorter = num_tasks - len(tasks)
    at_95 = 0 if shorter >= 0.95 * num_tasks else tasks[int(0.95 * num_tasks) - shorter]
    record_property("frames", num_tasks)
    record_property("long_tasks_ms", tasks)
    assert at_95 < 50, tasks


def test_five_hundred_chats_are_listed_at_once(
    page: Page, script: Script, record_property: Callable[[str, object], None]
) -> None:
    for number in range(500):
        pair = message("q", "user", f"Question {number}"), message("a", "assistant", "word " * 50, "q")
        script.keep(*pair, title=f"Chat number {number}")
    started = time.perf_counter()
    page.goto("/")
    expect(page.locator("[data-chat]").first).to_be_visible()
    record_property("first_chats_seconds", time.perf_counter() - started)
    expect(page.locator("[data-chat]")).to_have_count(500)
    started = time.perf_counter()
    page.locator("#search").fill("number 321")
    expect(page.locator("[data-chat]")).to_have_count(1)
    record_property("found_seconds", time.perf_counter() - started)
