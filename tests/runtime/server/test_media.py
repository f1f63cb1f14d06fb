"""Pictures and sounds as each dialect brings them."""

import base64
from typing import Any

import httpx
import pytest

from runtime.engine.values.media import MARK, MediaKind
from tests.fakes import ScriptedEngine
from tests.serving import ask, make_app

FILE = b"a picture"
BASE64 = base64.b64encode(FILE).decode()
URL = f"data:image/png;base64,{BASE64}"
OPENAI = {"type": "image_url", "image_url": {"url": URL}}
SOUND = {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}}
ANTHROPIC = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}


def seer(*kinds: MediaKind) -> ScriptedEngine:
    template = "{% for message in messages %}[{{ message.content }}]{% endfor %}"
    return ScriptedEngine(media_kinds=kinds or tuple(MediaKind), chat_template=template)


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def words(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


REQUESTS = {
    "chat": ("/v1/chat/completions", chat(words("what is"), OPENAI, words("this?")), "[what is*this?]"),
    "chat with a sound": ("/v1/chat/completions", chat(SOUND, words("and this?")), "[*and this?]"),
    "responses": (
        "/v1/responses",
        {
            "input": [
                {"role": "user", "content": [words("look", "input_text"), {"type": "input_image", "image_url": URL}]}
            ]
        },
        "[look*]",
    ),
    "ollama chat": ("/api/chat", {"messages": [{"role": "user", "content": "hm", "images": [BASE64]}]}, "[*hm]"),
    "ollama generate": ("/api/generate", {"prompt": "hm", "images": [BASE64]}, "[*hm]"),
    "ollama raw": ("/api/generate", {"prompt": "hm", "images": [BASE64], "raw": True}, "*hm"),
    "anthropic": ("/v1/messages", {"max_tokens": 9, **chat(ANTHROPIC, words("hm"))}, "[*\n\nhm]"),
    "anthropic's tools": (
        "/v1/messages",
        {"max_tokens": 9, **chat({"type": "tool_result", "tool_use_id": "t", "content": [ANTHROPIC]}, words("hm"))},
        "[<tool_response>\n*\n</tool_response>][hm]",
    ),
    "completion": (
        "/completion",
        {"prompt": {"prompt_string": f"see {MARK}: ", "multimodal_data": [BASE64]}},
        "see *: ",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_picture_reaches_the_engine_at_its_place(name: str) -> None:
    path, body, wanted = REQUESTS[name]
    engine = seer()
    response = ask(make_app(engine), "POST", path, json={"stream": False, **body})
    assert response.status_code == 200, response.text
    (request,) = engine.requests
    assert [media.raw for media in request.prompt.media] == [FILE]
    text = [" * "[1:2] if token < 0 else chr(token) for token in request.prompt.tokens]
    assert "".join(text).replace("****", "*") == wanted


@pytest.mark.parametrize("name", REQUESTS)
def test_a_model_without_a_projector_says_that_it_reads_text_only(name: str) -> None:
    path, body, _wanted = REQUESTS[name]
    response = ask(make_app(ScriptedEngine()), "POST", path, json=body)
    assert response.status_code == 400
    assert "this model reads text only" in response.text


def test_pictures_of_a_conversation_come_in_their_order() -> None:
    files = [b"one", b"two", b"three"]
    urls = [f"data:image/jpeg;base64,{base64.b64encode(file).decode()}" for file in files]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [
        {"role": "user", "content": [parts[0], parts[1]]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": [words("and"), parts[2]]},
    ]
    engine = seer()
    ask(make_app(engine), "POST", "/v1/chat/completions", json={"messages": messages})
    assert [media.raw for media in engine.requests[0].prompt.media] == files


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/v1/chat/completions", chat({"type": "image_url", "image_url": {"url": "http://x/a.png"}}), "is an address"),
        ("/v1/chat/completions", chat({"type": "image_url", "image_url": {"url": "file:///a.png"}}), "is an address"),
        ("/v1/chat/completions", chat({"type": "image_url", "image_url": "data:image/png;base64,?"}), "is no base64"),
        ("/v1/chat/completions", chat({"type": "image_url", "image_url": "data:text/html;base64,aGk="}), "text/html"),
        ("/v1/chat/completions", chat({"type": "image_url", "image_url": "data:image/png,hi"}), "must hold base64"),
        ("/v1/chat/completions", chat({"type": "image_url"}), "must be a data: URL"),
        ("/v1/chat/completions", chat({"type": "input_audio", "input_audio": {"data": 5}}), "must be a text in base64"),
        ("/v1/chat/completions", chat({"type": "video_url", "video_url": {"url": "x"}}), "of type video_url"),
        ("/v1/messages", chat({"type": "image", "source": {"type": "url", "url": "http://x"}}), "nothing is fetched"),
        ("/v1/messages", chat({"type": "image", "source": {"type": "base64", "data": "?"}}), "is no base64"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["?"]}]}, "is no base64"),
        ("/api/generate", {"prompt": "x", "images": [BASE64], "context": [1]}, "can't be combined"),
        ("/completion", {"prompt": {"prompt_string": 5, "multimodal_data": [BASE64]}}, "must have a text"),
        ("/completion", {"prompt": {"prompt_string": "x", "multimodal_data": ["?"]}}, "is no base64"),
        ("/v1/completions", {"prompt": {"prompt_string": "x", "multimodal_data": [BASE64]}}, "can only be text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_brings_no_picture_is_refused_by_name(path: str, body: dict[str, Any], word: str) -> None:
    response = ask(make_app(seer()), "POST", path, json={"max_tokens": 9, **body})
    assert response.status_code == 400, response.text
    assert word in response.text


def test_an_answer_about_a_picture_is_no_context_to_go_on_from() -> None:
    body = {"prompt": "hm", "images": [BASE64], "stream": False}
    assert "context" not in ask(make_app(seer()), "POST", "/api/generate", json=body).json()


def test_tokens_are_counted_with_the_picture() -> None:
    body = chat(ANTHROPIC, words("hm"))
    with_it = ask(make_app(seer()), "POST", "/v1/messages/count_tokens", json=body).json()["input_tokens"]
    without = ask(make_app(seer()), "POST", "/v1/messages/count_tokens", json=chat(words("hm"))).json()["input_tokens"]
    assert with_it - without == 4 + len("\n\n")


def get(engine: ScriptedEngine, path: str) -> Any:
    response: httpx.Response = ask(make_app(engine), "GET", path)
    return response.json()


@pytest.mark.parametrize(
    ("kinds", "has_vision", "has_audio"),
    [((), False, False), ((MediaKind.PICTURE,), True, False), ((MediaKind.SOUND,), False, True)],
)
def test_every_dialect_tells_what_the_model_reads(
    kinds: tuple[MediaKind, ...], has_vision: bool, has_audio: bool
) -> None:
    engine = ScriptedEngine(media_kinds=kinds)
    props = get(engine, "/props")
    assert props["modalities"] == {"vision": has_vision, "video": False, "audio": has_audio}
    assert props["media_marker"] == MARK
    shown = ask(make_app(engine), "POST", "/api/show", json={"model": "scripted"}).json()
    assert ("vision" in shown["capabilities"]) is has_vision
    read = get(engine, "/v1/models")["data"][0]["architecture"]["input_modalities"]
    assert read == ["text", *(["image"] if has_vision else []), *(["audio"] if has_audio else [])]
