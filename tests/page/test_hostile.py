"""Nothing that a model says, or that is in a file of chats, is ever run, fetched, or able to break the page."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.hostile import RUN, TEXTS
from tests.page.person import ask_and_wait
from tests.page.scripted import Script, message

NOTHING_BUT_OURS = """() => {
    const images = "img:not([src^='data:image']), svg, video";
    const bad = `${images}, script, iframe, object, embed, style, link, form, base, meta`;
    const answers = [...document.querySelectorAll(".answer, .question, .thoughts, .passages p, .title")];
    const all = answers.flatMap((answer) => [...answer.querySelectorAll(bad)]);
    const found = all.filter((each) => !each.closest("button, summary"));
    const elements = answers.flatMap((answer) => [...answer.querySelectorAll("*")]);
    const handlers = elements.flatMap((each) => each.getAttributeNames()).filter((name) => name.startsWith("on"));
    const links = elements.filter((each) => each.hasAttribute("href")).map((each) => each.href);
    const strange = links.filter((href) => !/^(https?:|mailto:)/.test(href));
    return { wasRun: window.wasRun ?? 0, found: found.map((each) => each.outerHTML), handlers, strange };
}"""
CLEAN = {"wasRun": 0, "found": [], "handlers": [], "strange": []}


@pytest.fixture
def chat(desktop_chat: Page) -> Page:
    return desktop_chat


def test_hostile_answers_run_nothing_while_they_grow_and_after(chat: Page, script: Script) -> None:
    for start in range(0, len(TEXTS), 20):
        some = TEXTS[start : start + 20]
        script.say("\n\n".join(some), reasoning=some[0], piece_length=997)
        ask_and_wait(chat, next(text[:500] for text in some if text[:500].strip()))
        assert chat.evaluate(NOTHING_BUT_OURS) == CLEAN, some
        chat.locator("#new-chat").click()
        expect(chat.locator("#welcome")).to_be_visible()


def test_a_hostile_text_alone_leaves_a_page_that_works(chat: Page, script: Script) -> None:
    texts = [*TEXTS[::9], *TEXTS[-31:]]
    for text in texts:
        script.say(text, piece_length=4001)
        ask_and_wait(chat, "x")
    assert chat.evaluate(NOTHING_BUT_OURS) == CLEAN
    script.say("still here")
    expect(ask_and_wait(chat, "And now?")).to_have_text("still here")


def hostile_chats() -> list[dict[str, object]]:
    picture = {"kind": "image", "name": "<b>x</b>", "data": f"javascript:{RUN}"}
    passage = {"kind": "passage", "name": "<img src=x onerror=alert(1)>", "part": {}, "total": "x", "text": TEXTS[5]}
    chats: list[dict[str, object]] = []
    for number, text in enumerate(TEXTS):
        question = message("q", "user", text, attachments=[picture, passage])
        answer = message(
            "a", "assistant", text, "q", reasoning=text, stats={"tokens": text[:4000], "end": "constructor"}
        )
        settings = {"system": text[:9000], "temperature": text[:99], "format": "__proto__", "stops": [text[:9000], 1]}
        chat = {
            "id": f"h{number}",
            "title": text[:400],
            "settings": settings,
            "leaf": "a",
            "messages": [question, answer],
        }
        chats.append(chat)
    return chats


def test_hostile_chats_are_brought_in_and_opened(chat: Page, script: Script, tmp_path: Path) -> None:
    document = {"format": "holdall.chats", "version": 1, "chats": hostile_chats()}
    (tmp_path / "evil.json").write_text(json.dumps(document))
    chat.locator("#open-preferences").click()
    with chat.expect_file_chooser() as chooser:
        chat.locator("#dialog .row .quiet").last.click()
    chooser.value.set_files(tmp_path / "evil.json")
    expect(chat.locator(".toast")).to_contain_text("chats added")
    chat.keyboard.press("Escape")
    assert chat.evaluate(NOTHING_BUT_OURS) == CLEAN
    chat.locator("#open-settings").click()
    kept = list(script.chats)
    assert len(kept) == len(TEXTS)
    for chat_id in kept:
        chat.evaluate("id => { location.hash = id; }", chat_id)
        expect(chat.locator(f"[data-chat='{chat_id}'].is-current")).to_be_attached()
        expect(chat.locator("#messages .from-model")).to_have_count(1)
        assert chat.evaluate(NOTHING_BUT_OURS) == CLEAN


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", '{"format": "holdall.chats"}', '{"format": "holdall.chats", "chats": [{"id": 1}]}', "{"],
)
def test_a_broken_file_is_refused_and_nothing_changes(
    chat: Page, script: Script, tmp_path: Path, content: str, faults: object
) -> None:
    faults.forgive("console, chats/import: Failed to load resource")  # type: ignore[attr-defined]
    (tmp_path / "broken.json").write_text(content)
    chat.locator("#open-preferences").click()
    with chat.expect_file_chooser() as chooser:
        chat.locator("#dialog .row .quiet").last.click()
    chooser.value.set_files(tmp_path / "broken.json")
    expect(chat.locator(".toast")).to_be_visible()
    assert script.chats == {}


def test_the_policy_runs_nothing_that_is_written_into_the_page(chat: Page, faults: object) -> None:
    faults.forgive("Content Security Policy")  # type: ignore[attr-defined]
    faults.forgive("console, x: Failed to load resource")  # type: ignore[attr-defined]
    chat.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.wasRun=1\">')")
    chat.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.wasRun=1'; document.body.append(s)"
    )
    assert chat.evaluate("window.wasRun ?? 0") == 0
