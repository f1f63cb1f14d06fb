"""Clients that exist, unchanged, against the bundle."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Literal

import httpx
import openai
import pydantic
import pytest
from langchain_community.llms import Llamafile

from tests.e2e.bundle import Process

QUESTION = "What is the capital of France?"
# `/completion` is given text to go on with, so a client of it writes the model's own turn marks.
CHATML_QUESTION = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
# With the system prompt of its own template this small model, asked without chance, begins to babble in French.
MESSAGES = [{"role": "system", "content": "Answer the question."}, {"role": "user", "content": QUESTION}]
ANSWER = "The capital of France is Paris."
NUM_TRIES = 4  # at temperature 0.8 this small model now and then says something else


def says_paris(ask: Callable[[], str]) -> bool:
    return any("Paris" in ask() for _ in range(NUM_TRIES))


@pytest.fixture
def client(bundle_server: Process) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{bundle_server.url}/v1", api_key="none", timeout=60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(bundle_server: Process) -> None:
    body = {"messages": MESSAGES, "temperature": 0}
    command = ["curl", "-s", "-m", "60", f"{bundle_server.url}/v1/chat/completions", "-d", json.dumps(body)]
    answer = json.loads(subprocess.run(command, capture_output=True, timeout=90, check=True).stdout)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_langchains_llamafile(bundle_server: Process) -> None:
    assert says_paris(lambda: Llamafile(base_url=bundle_server.url).invoke(CHATML_QUESTION))


def test_langchains_llamafile_streaming(bundle_server: Process) -> None:
    model = Llamafile(base_url=bundle_server.url, streaming=True)
    assert says_paris(lambda: "".join(model.stream(CHATML_QUESTION)))
    assert len(list(model.stream(CHATML_QUESTION))) > 3


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="any", messages=MESSAGES, temperature=0)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_openai_parses_what_the_model_must_write(client: openai.OpenAI) -> None:
    class City(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=20)
        country: Literal["France", "Italy"]
        inhabitants: int = pydantic.Field(ge=1, le=20_000_000)

    answer = client.chat.completions.parse(
        model="any", messages=MESSAGES, response_format=City, max_tokens=200, logprobs=True, top_logprobs=2
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.parsed is not None
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs.content or ()) == choice.message.content


def test_openai_chat_streaming(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="any",
            messages=MESSAGES,  # type: ignore[arg-type]
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ANSWER
    assert chunks[-1].usage is not None


def test_openai_completions_and_models(client: openai.OpenAI) -> None:
    model = client.models.list().data[0].id
    assert model == "SmolLM2-135M-Instruct"
    answer = client.completions.create(model=model, prompt=CHATML_QUESTION, temperature=0, max_tokens=16)
    assert "Paris" in answer.choices[0].text
    streamed = client.completions.create(model=model, prompt=CHATML_QUESTION, temperature=0, max_tokens=16, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


def test_eight_streams_at_once_all_finish(bundle_server: Process) -> None:
    async def stream(client: httpx.AsyncClient) -> dict[str, object]:
        body = {"prompt": "Once upon a time", "n_predict": 48, "ignore_eos": True, "stream": True}
        async with client.stream("POST", f"{bundle_server.url}/completion", json=body, timeout=120) as answer:
            events = [json.loads(line[6:]) async for line in answer.aiter_lines() if line]
        last: dict[str, object] = events[-1]
        return last

    async def all_at_once() -> list[dict[str, object]]:
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(*(stream(client) for _ in range(8)))

    for last in asyncio.run(all_at_once()):
        assert (last["stop"], last["tokens_predicted"]) == (True, 48)
