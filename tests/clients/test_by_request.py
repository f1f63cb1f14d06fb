"""Clients that can't be installed here, by the requests they send and the way they read what comes back.

Open WebUI's requests to Ollama are in `test_ollama.py`.
"""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.clients.awkward import HI, PIECES, TEXT


@pytest.fixture
def client(awkward_server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=awkward_server, timeout=10) as client:
        yield client


def chat_text(client: httpx.Client, body: object, headers: dict[str, str] | None = None) -> tuple[str, list[object]]:
    """Return the text of a streamed chat and the chunks' usages, read as the JavaScript clients below read them."""
    answer = client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.split("\n") if line.startswith("data: ")]
    assert lines.pop() == "data: [DONE]"
    chunks = [json.loads(line[len("data: ") :]) for line in lines]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    return text, [chunk["usage"] for chunk in chunks if chunk.get("usage")]


def test_continue_completes(client: httpx.Client) -> None:
    """Its providers `llama.cpp` and `llamafile`: options by llama.cpp's names, and a key nobody asked for."""
    body = {
        "prompt": "Hi",
        "stream": True,
        "temperature": 0.5,
        "n_predict": 2048,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "min_p": None,
        "mirostat": None,
        "stop": ["<|im_end|>"],
        "top_k": 100,
        "top_p": 1,
    }
    headers = {"Content-Type": "application/json", "Authorization": "Bearer undefined"}
    answer = client.post("/completion", json=body, headers=headers)
    events = [json.loads(line[len("data: ") :]) for line in answer.text.split("\n") if line.startswith("data: ")]
    assert "".join(event["content"] for event in events) == TEXT


def test_open_webui_speaks_to_it_as_to_openai(client: httpx.Client) -> None:
    headers = {"Authorization": "Bearer none", "X-OpenWebUI-User-Name": "somebody"}
    (model,) = client.get("/v1/models", headers=headers).json()["data"]
    body = {
        "model": model["id"],
        "messages": [{"role": "system", "content": "Be kind."}, *HI],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
        "stop": ["never"],
        "logit_bias": {},
    }
    text, usages = chat_text(client, body, headers)
    assert text == TEXT
    assert len(usages) == 1


def test_privategpt_speaks_to_it_as_to_openai(client: httpx.Client) -> None:
    """Its mode `openailike` is LlamaIndex's OpenAI client with no more than these."""
    body = {"model": "gpt-3.5-turbo", "messages": HI, "stream": True, "temperature": 0.1, "max_tokens": 256}
    assert chat_text(client, {**body, "n": 1})[0] == TEXT


def test_gpt4all_and_lm_studio_are_asked_in_openais_words(client: httpx.Client) -> None:
    """What works with their servers works here: the subset of OpenAI's API that both document."""
    assert client.get("/v1/models").json()["object"] == "list"
    completion = {"model": "any", "prompt": "Hi", "max_tokens": 50, "temperature": 0.28, "top_p": 0.95, "n": 1}
    answer = client.post("/v1/completions", json={**completion, "echo": False, "stream": False}).json()
    assert answer["choices"][0]["text"] == TEXT
    # LM Studio's names for what its own sampler takes
    chat = {"model": "any", "messages": HI, "top_k": 40, "repeat_penalty": 1.1, "ttl": 300}
    answer = client.post("/v1/chat/completions", json=chat).json()
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert answer["usage"]["completion_tokens"] == len(PIECES)
