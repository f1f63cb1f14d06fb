"""A person gives the model files."""

import struct
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.person import ask_and_wait, word
from tests.page.scripted import Script


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PIXEL = (
    b"\x89PNG\r\n\x1a\n"
    + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + png_chunk(b"IDAT", zlib.compress(b"\0\xc8\x50\x40"))
    + png_chunk(b"IEND", b"")
)
DROP = """([name, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([content], name));
    for (const type of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
}"""
PASTE = """(text) => {
    const transfer = new DataTransfer();
    transfer.setData("text/plain", text);
    const event = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
    document.querySelector("#question").dispatchEvent(event);
}"""


def pick(page: Page, *files: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#attach").click()
    chooser.value.set_files(files)


def sent(script: Script) -> str:
    return str(script.requests[-1]["messages"][-1]["content"])


def pdf(content: str, trailer: bytes = b"") -> bytes:
    """A file of one page with this content; `trailer` is more of what its trailer says."""
    stream = zlib.compress(content.encode())
    return b"".join([
        b"%PDF-1.4\n1 0 obj\n<</Type /Catalog /Pages 2 0 R>>\nendobj\n",
        b"2 0 obj\n<</Type /Pages /Kids [3 0 R] /Count 1>>\nendobj\n",
        b"3 0 obj\n<</Type /Page /Parent 2 0 R /Contents 4 0 R /Resources <</Font <</F1 5 0 R>>>>>>\nendobj\n",
        b"4 0 obj\n<</Length %d /Filter /FlateDecode>>\nstream\n%s\nendstream\nendobj\n" % (len(stream), stream),
        b"5 0 obj\n<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>\nendobj\n",
        b"trailer\n<</Root 1 0 R %s>>\n%%%%EOF\n" % trailer,
    ])  # fmt: skip


@pytest.mark.parametrize("name", ["note.txt", "note.md", "table.csv", "code.py"])
def test_a_picked_text_goes_along_whole(chat: Page, script: Script, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("the cat is grey")
    pick(chat, tmp_path / name)
    expect(chat.locator(".chip")).to_contain_text(word(chat, "4 tokens", "4 jetons"))
    ask_and_wait(chat, "What colour?")
    assert name in sent(script)
    assert "the cat is grey" in sent(script)
    assert sent(script).endswith("What colour?")
    expect(chat.locator(".files .chip")).to_contain_text(name)


def test_a_dropped_file_is_attached_and_can_be_removed(any_chat: Page, script: Script) -> None:
    any_chat.evaluate(DROP, ["dropped.txt", "it fell from above"])
    expect(any_chat.locator("#attachments .chip")).to_contain_text("dropped.txt")
    any_chat.locator("#attachments .chip button").click()
    expect(any_chat.locator("#attachments")).to_be_hidden()
    ask_and_wait(any_chat, "Hello")
    assert sent(script) == "Hello"


def test_a_long_pasted_text_becomes_a_file_and_a_short_one_does_not(chat: Page) -> None:
    chat.evaluate(PASTE, "short")
    expect(chat.locator("#attachments")).to_be_hidden()
    chat.evaluate(PASTE, "long text " * 500)
    expect(chat.locator("#attachments .chip")).to_contain_text(word(chat, "Pasted text.txt", "Texte collé.txt"))


def test_the_text_of_a_pdf_is_read(chat: Page, script: Script, tmp_path: Path) -> None:
    (tmp_path / "paper.pdf").write_bytes(
        pdf("BT /F1 12 Tf 72 700 Td (Whales sing \\(at night\\).) Tj 0 -14 Td [(Second) -300 (line)] TJ ET")
    )
    pick(chat, tmp_path / "paper.pdf")
    ask_and_wait(chat, "When?")
    assert "Whales sing (at night).\nSecond line" in sent(script)


@pytest.mark.parametrize(
    ("name", "content", "english", "french"),
    [
        ("song.mp3", b"\xff\xfb\x00\x00" * 40, "is not a text", "pas un texte lisible"),
        ("scan.pdf", pdf("q /Image Do Q"), "holds no text", "ne contient pas de texte"),
        ("locked.pdf", pdf("BT ET", b"/Encrypt <</Filter /Standard>>"), "is encrypted", "est chiffré"),
        ("broken.pdf", b"%PDF-1.4\nnothing here", "is damaged", "est abîmé"),
        ("cat.png", PIXEL, "cannot see pictures", "ne voit pas les images"),
    ],
    ids=["sound", "scan", "encrypted", "damaged", "picture"],
)
def test_what_cannot_be_read_is_refused_in_words(
    chat: Page, tmp_path: Path, name: str, content: bytes, english: str, french: str
) -> None:
    (tmp_path / name).write_bytes(content)
    pick(chat, tmp_path / name)
    expect(chat.locator(".toast")).to_contain_text(word(chat, english, french))
    expect(chat.locator("#attachments")).to_be_hidden()


def test_a_picture_goes_to_a_model_that_sees(chat: Page, script: Script, tmp_path: Path) -> None:
    script.face["modalities"]["vision"] = True
    chat.reload()
    expect(chat.locator("#welcome-line")).not_to_be_empty()
    (tmp_path / "cat.png").write_bytes(PIXEL)
    pick(chat, tmp_path / "cat.png")
    expect(chat.locator(".chip img")).to_be_visible()
    ask_and_wait(chat, "What is it?")
    image, text = script.requests[-1]["messages"][-1]["content"]
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert text == {"type": "text", "text": "What is it?"}


def test_a_long_document_is_looked_up_and_its_sources_shown(any_chat: Page, script: Script, tmp_path: Path) -> None:
    filler = "".join(
        f"Paragraph {index} speaks of ordinary matters and nothing else at all.\n\n" for index in range(400)
    )
    secret = "The treasure lies under the old pear tree behind the mill.\n\n"
    (tmp_path / "book.txt").write_text(filler[: len(filler) // 2] + secret + filler[len(filler) // 2 :])
    pick(any_chat, tmp_path / "book.txt")
    chip = any_chat.locator("#attachments .chip")
    expect(chip).to_contain_text(word(any_chat, "4,812 tokens", "4\u202f812 jetons"))
    expect(chip).to_contain_text(
        word(any_chat, "Longer than fits (2,048 tokens)", "Plus long que la place disponible (2\u202f048 jetons)")
    )
    ask_and_wait(any_chat, "Where lies the treasure?")
    assert "under the old pear tree" in sent(script)
    assert len(sent(script)) < len(filler) / 3
    any_chat.locator(".passages summary").click()
    expect(any_chat.locator(".passages")).to_contain_text("under the old pear tree")
    expect(any_chat.locator(".passages cite").first).to_contain_text("book.txt")


def test_a_text_is_too_long_when_others_have_taken_the_room(chat: Page, script: Script, tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_text("one " * 1500)
    (tmp_path / "second.txt").write_text("two " * 600)
    pick(chat, tmp_path / "first.txt")
    chips = chat.locator("#attachments .chip")
    expect(chips.first).to_contain_text(word(chat, "1,500 tokens", "1\u202f500 jetons"))
    expect(chips.first).not_to_contain_text(word(chat, "Longer", "Plus long"))
    pick(chat, tmp_path / "second.txt")
    expect(chips.last).to_contain_text(word(chat, "600 tokens", "600 jetons"))
    expect(chips.last).to_contain_text(word(chat, "Longer than fits (548", "Plus long que la place disponible (548"))
    chips.first.locator("button").click()
    expect(chips).to_have_count(1)


def test_a_document_is_looked_up_by_words_where_there_are_no_embeddings(
    chat: Page, script: Script, tmp_path: Path, faults: object
) -> None:
    faults.forgive("console, v1/embeddings")  # type: ignore[attr-defined]
    script.can_embed = False
    (tmp_path / "book.txt").write_text("Nothing of note here at all.\n\n" * 500 + "The password is swordfish.")
    pick(chat, tmp_path / "book.txt")
    expect(chat.locator("#attachments .chip")).to_contain_text(
        word(chat, "chosen by their words", "choisis par leurs mots")
    )
    ask_and_wait(chat, "What is the password?")
    assert "swordfish" in sent(script)
