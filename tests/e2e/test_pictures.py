"""A bundle with a projector: it sees as it is, without a flag."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import ollama
import openai
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import Faults
from tests.e2e.bundle import Process, build
from tests.e2e.test_page import ask, wait_for_text
from tests.tiny_projectors import Projecting, png, write_projector, write_text_model

PICTURE = base64.b64encode(png(hue=1)).decode()
# What a llama-server says to "abc<__media__>def" with this model and this picture.
PEER = [288, 138, 138, 138, 138, 138, 138, 138, 40, 317, 49, 81]


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seer")
    model = write_text_model(folder / "Seer.gguf")
    projector = write_projector(folder / "mmproj-Seer.gguf", Projecting.WHOLE)
    built = build(folder / "Seer", str(model), "--mmproj", str(projector))
    assert built.returncode == 0, built.stderr
    for source in (model, projector):
        source.unlink()
    return folder / "Seer"


@pytest.fixture(scope="module")
def url(seer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = Process(seer, tmp_path_factory.mktemp("server"), "--server", "--nobrowser", "--temp", "0", "-n", "12")
    try:
        yield process.wait_until_ready().url
    finally:
        process.kill_if_alive()


def test_a_picture_is_seen_as_llama_server_sees_it(url: str) -> None:
    props = httpx.get(f"{url}/props").json()
    assert props["modalities"]["vision"] is True
    prompt = {"prompt_string": f"abc{props['media_marker']}def", "multimodal_data": [PICTURE]}
    reply = httpx.post(f"{url}/completion", json={"prompt": prompt, "return_tokens": True}, timeout=60).json()
    assert reply["tokens"] == PEER


def test_official_clients_show_pictures(url: str) -> None:
    data_url = f"data:image/png;base64,{PICTURE}"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        part = {"type": "image_url", "image_url": {"url": data_url}}
        messages = [{"role": "user", "content": [part, {"type": "text", "text": "what"}]}]
        chat = client.chat.completions.create(model="any", messages=messages)
        assert chat.usage
        assert chat.usage.prompt_tokens > 16
        item = {"role": "user", "content": [{"type": "input_image", "image_url": data_url, "detail": "auto"}]}
        assert client.responses.create(model="any", input=[item]).usage
        part["image_url"] = {"url": "https://example.org/a.png"}
        with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
            client.chat.completions.create(model="any", messages=messages)
    with anthropic.Anthropic(base_url=url, api_key="none") as client:
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        blocks = [{"type": "image", "source": source}, {"type": "text", "text": "what"}]
        message = client.messages.create(
            model="any",
            max_tokens=9,
            messages=[{"role": "user", "content": blocks}],
        )
        assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 16
    with ollama.Client(url) as asked:
        assert "vision" in (asked.show("seer").capabilities or ())
        assert asked.generate("seer", "what", images=[PICTURE]).prompt_eval_count > 16
        assert (
            asked.chat("seer", [{"role": "user", "content": "what", "images": [PICTURE]}]).message.role == "assistant"
        )


def test_what_is_inside_is_told(seer: Path) -> None:
    command = [sys.executable, "-m", "bundler", "inspect", "--verify", str(seer)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "reads besides text  pictures" in told
    assert "mmproj-Seer.gguf" in told


def test_a_picture_is_attached_to_a_question_on_the_page(url: str, faults: Faults, page: Page, tmp_path: Path) -> None:
    faults.forgive(f"request to another origin: {url}/")  # this one is the page's own
    (tmp_path / "red.png").write_bytes(png(hue=1))
    page.goto(url)
    with page.expect_file_chooser() as chooser:
        page.locator("#attach").click()
    chooser.value.set_files(tmp_path / "red.png")
    expect(page.locator("#attachments .chip img")).to_be_visible()
    with page.expect_response("**/v1/chat/completions") as answered:
        ask(page, "What is it?")
    assert answered.value.status == 200
    content = json.loads(answered.value.request.post_data or "{}")["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    wait_for_text(page.locator(".answer").last)
