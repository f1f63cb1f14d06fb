"""Clients that exist, unchanged, against the bundle."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anthropic
import httpx
import jsonschema
import ollama
import openai
import pydantic
import pytest
from langchain_community.llms import Llamafile

from tests.clients import (
    node,
    pypi,
    test_anthropic,
    test_freeaiagent,
    test_llama_benchy,
    test_llm,
    test_llmfastdev,
    test_ollama,
    test_openai_js,
    test_theia,
)
from tests.e2e.bundle import Process, free_port, wait_until

QUESTION = "What is the capital of France?"
# `/completion` is given text to go on with, so a client of it writes the model's own turn marks.
CHATML_BEGINNING = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\nThe capital of France is"
MESSAGES = [{"role": "system", "content": "Answer the question."}, {"role": "user", "content": QUESTION}]
# Which words the model would choose by itself depends on the processor's last digits, and so does whether it ends.
# A choice between these four sentences does not: it is far from close.
ANSWERS = [f"The capital of France is {city}." for city in ("Berlin", "London", "Paris", "Rome")]
ANSWER = ANSWERS[2]
GRAMMAR = f"root ::= {' | '.join(map(json.dumps, ANSWERS))}"
SCHEMA = {"enum": ANSWERS}


@pytest.fixture
def client(bundle_server: Process) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{bundle_server.url}/v1", api_key="none", timeout=60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(bundle_server: Process) -> None:
    body = {"messages": MESSAGES, "temperature": 0, "grammar": GRAMMAR}
    command = ["curl", "-s", "-m", "60", f"{bundle_server.url}/v1/chat/completions", "-d", json.dumps(body)]
    answer = json.loads(subprocess.run(command, capture_output=True, timeout=90, check=True).stdout)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_langchains_llamafile(bundle_server: Process) -> None:
    model = Llamafile(base_url=bundle_server.url, temperature=0, n_predict=16)
    assert model.invoke(CHATML_BEGINNING).startswith(" Paris")


def test_langchains_llamafile_streaming(bundle_server: Process) -> None:
    model = Llamafile(base_url=bundle_server.url, temperature=0, n_predict=16, streaming=True)
    pieces = list(model.stream(CHATML_BEGINNING))
    assert "".join(pieces).startswith(" Paris")
    assert len(pieces) > 1


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="any",
        messages=MESSAGES,  # type: ignore[arg-type]
        temperature=0,
        extra_body={"grammar": GRAMMAR},
    )
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (ANSWER, "stop")
    assert answer.usage is not None
    assert 8 <= answer.usage.completion_tokens <= len(ANSWER) + 1


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
            extra_body={"grammar": GRAMMAR},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ANSWER
    assert chunks[-1].usage is not None


def test_openai_completions_and_models(client: openai.OpenAI) -> None:
    model = client.models.list().data[0].id
    assert model == "SmolLM2-135M-Instruct"
    asked: dict[str, Any] = {"model": model, "prompt": CHATML_BEGINNING, "temperature": 0, "max_tokens": 16}
    asked["extra_body"] = {"grammar": 'root ::= " " ("Berlin" | "London" | "Paris" | "Rome") "."'}
    assert client.completions.create(**asked).choices[0].text == " Paris."
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == " Paris."


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


SCRIPTS: dict[str, tuple[Callable[..., Any], str, tuple[str, ...], tuple[str, ...]]] = {
    # runner, script, packages, and which of its answers are the model's words
    "llm": (pypi.run_script, test_llm.SCRIPT, test_llm.PACKAGES, ("whole", "streamed")),
    "llmfastdev": (
        pypi.run_script,
        test_llmfastdev.SCRIPT,
        test_llmfastdev.PACKAGES,
        ("completed", "streamed", "chatted"),
    ),
    "openai for JavaScript": (
        node.run_script,
        test_openai_js.OPENAI,
        test_openai_js.OPENAI_PACKAGES,
        ("whole", "streamed", "helped", "completed"),
    ),
    "Vercel's ai": (
        node.run_script,
        test_openai_js.VERCEL,
        test_openai_js.VERCEL_PACKAGES,
        ("whole", "streamed"),
    ),
    "anthropic for JavaScript": (node.run_script, test_anthropic.SCRIPT, test_anthropic.JS, ("whole", "streamed")),
    "ollama for JavaScript": (
        node.run_script,
        test_ollama.SCRIPT,
        test_ollama.JS,
        ("whole", "streamed", "generated"),
    ),
}


@pytest.mark.parametrize("client", SCRIPTS)
def test_a_client_in_a_folder_of_its_own(client: str, bundle_server: Process, tmp_path: Path) -> None:
    run, script, packages, words = SCRIPTS[client]
    answers = run(script, packages, ADDRESS=bundle_server.url, LLM_USER_PATH=str(tmp_path), OPENAI_API_KEY="none")
    assert [name for name in words if not answers[name].strip()] == []


def test_llama_benchys_runs(bundle_server: Process) -> None:
    measured = pypi.run_script(test_llama_benchy.SCRIPT, test_llama_benchy.PACKAGES, ADDRESS=bundle_server.url)
    assert measured["runs"] == [[None, True, 3]] * 6


def test_theia_starts_the_file_and_ends_it(bundle: Path) -> None:
    """As its manager does: the file's own folder, these arguments in this order, and SIGTERM."""
    port = free_port()
    command = [f"./{bundle.name}", "--port", str(port), "--server", "--nobrowser"]
    process = subprocess.Popen(command, cwd=bundle.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_healthy(port), 60, "becoming ready")
        address = f"http://127.0.0.1:{port}"
        answer = node.run_script(
            test_theia.SCRIPT, (test_theia.PACKAGE,), neighbours=test_theia.NEIGHBOURS, ADDRESS=address
        )
        assert answer["text"].strip()
    finally:
        process.terminate()
        process.wait(timeout=30)


def is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


STARTED_BY_FREEAIAGENT = """
import asyncio, json, os
from pathlib import Path
from freeaiagent.backends import llamafile
llamafile.LLAMAFILE_DIR = Path(os.environ["FILES"])
llamafile.MODELS_DIR = Path(os.environ["FILES"])
llamafile.ENGINE_DIR = Path(os.environ["FILES"])

async def ask(url):
    backend = llamafile.LlamafileBackend(port=int(os.environ["PORT"]), download_url=url)
    is_available = await backend.is_available()
    answer = await backend.chat([{"role": "user", "content": "Hi"}], "any")
    llamafile._stop()
    llamafile._proc.wait(30)
    return [is_available, await backend.available_models() != [], bool(answer)]

print(json.dumps([asyncio.run(ask("https://example.org/" + name)) for name in ("model.llamafile", "other.gguf")]))
"""


def test_freeaiagent_starts_the_file_and_starts_it_with_another_model(
    bundle: Path, stories260k: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.llamafile").symlink_to(bundle)
    (tmp_path / "llamafile-0.10.3").symlink_to(bundle)  # the bare engine that it would download
    (tmp_path / "other.gguf").symlink_to(stories260k)
    places = {"FILES": str(tmp_path), "PORT": str(free_port()), "LLAMA_ARG_N_PREDICT": "32"}
    answers = pypi.run_script(STARTED_BY_FREEAIAGENT, test_freeaiagent.PACKAGES, **places)
    assert answers == [[True, True, True]] * 2


def test_anthropics_client(bundle_server: Process) -> None:
    with anthropic.Anthropic(base_url=bundle_server.url, api_key="none", max_retries=0, timeout=60) as client:
        question: list[anthropic.types.MessageParam] = [{"role": "user", "content": QUESTION}]
        asked: dict[str, Any] = {"model": "any", "max_tokens": 50, "system": "Answer the question."}
        chosen = {"temperature": 0, "grammar": GRAMMAR}
        message = client.messages.create(messages=question, extra_body=chosen, **asked)
        with client.messages.stream(messages=question, extra_body=chosen, **asked) as stream:
            streamed = "".join(stream.text_stream)
    assert message.content[0].type == "text"
    assert message.content[0].text == streamed == ANSWER


def test_ollamas_client_and_langchains(bundle_server: Process) -> None:
    from langchain_ollama import ChatOllama

    client = ollama.Client(host=bundle_server.url, timeout=60)
    (model,) = client.list().models
    asked: dict[str, Any] = {"messages": MESSAGES, "format": SCHEMA, "options": {"temperature": 0}}
    assert client.chat(str(model.model), **asked).message.content == json.dumps(ANSWER)
    pieces = client.chat(str(model.model), **asked, stream=True)
    assert "".join(piece.message.content or "" for piece in pieces) == json.dumps(ANSWER)
    client._client.close()
    llm = ChatOllama(
        model=str(model.model),
        base_url=bundle_server.url,
        temperature=0,
        format=SCHEMA,
        validate_model_on_init=True,
    )
    assert llm.invoke([("system", MESSAGES[0]["content"]), ("user", QUESTION)]).content == json.dumps(ANSWER)
    llm._client._client.close()


def test_llamaindexs_llamafile(bundle_server: Process) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.llamafile import Llamafile as LlamaIndexLlamafile

    llm = LlamaIndexLlamafile(base_url=bundle_server.url, temperature=0.0)
    messages = [ChatMessage(role=each["role"], content=each["content"]) for each in MESSAGES]
    assert llm.chat(messages, grammar=GRAMMAR).message.content == ANSWER
    assert list(llm.stream_chat(messages, grammar=GRAMMAR))[-1].message.content == ANSWER
    assert llm.complete(CHATML_BEGINNING, n_predict=16).text.startswith(" Paris")


WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
}


def test_langchains_and_llamaindexs_embeddings_are_the_same(bundle_server: Process) -> None:
    from langchain_community.embeddings import LlamafileEmbeddings
    from langchain_openai import OpenAIEmbeddings
    from llama_index.embeddings.llamafile import LlamafileEmbedding

    with httpx.Client(timeout=60) as http_client:
        # Asked for texts: for token ids it would fetch OpenAI's vocabulary.
        by_openai = OpenAIEmbeddings(
            base_url=f"{bundle_server.url}/v1",
            api_key=pydantic.SecretStr("none"),
            check_embedding_ctx_length=False,
            http_client=http_client,
        )
        vectors = [
            by_openai.embed_query(QUESTION),
            LlamafileEmbeddings(base_url=bundle_server.url).embed_query(QUESTION),
            LlamafileEmbedding(base_url=bundle_server.url).get_query_embedding(QUESTION),
        ]
    assert len(vectors[0]) == 576
    for vector in vectors[1:]:
        assert vector == pytest.approx(vectors[0], abs=1e-4)


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    city: str = pydantic.Field(max_length=20)
    celsius: int = pydantic.Field(ge=-90, le=60)


def test_langchain_openai_calls_a_tool_and_gives_structured_output(bundle_server: Process) -> None:
    from langchain_openai import ChatOpenAI

    with httpx.Client(timeout=60) as http_client:
        model = ChatOpenAI(
            base_url=f"{bundle_server.url}/v1",
            api_key=pydantic.SecretStr("none"),
            model="any",
            temperature=0,
            max_completion_tokens=200,
            http_client=http_client,
        )
        called = model.bind_tools([Weather], tool_choice="Weather").invoke("It is 3 degrees in Oslo.")
        assert [call["name"] for call in called.tool_calls] == ["Weather"]
        Weather.model_validate(called.tool_calls[0]["args"])
        assert isinstance(model.with_structured_output(Weather).invoke("It is 3 degrees in Oslo."), Weather)


def test_anthropics_client_has_a_tool_called_though_the_template_knows_none(bundle_server: Process) -> None:
    asked: dict[str, Any] = {
        "model": "any",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "What will the weather in Paris be for 3 days?"}],
        "tools": [{"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    }
    with anthropic.Anthropic(base_url=bundle_server.url, api_key="none", max_retries=0, timeout=60) as client:
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        for message in (client.messages.create(**asked), streamed):
            (call,) = message.content
            assert call.type == "tool_use"
            assert (call.name, message.stop_reason) == ("weather", "tool_use")
            jsonschema.validate(call.input, WEATHER)


def test_ollamas_client_has_earlier_calls_and_results_read(bundle_server: Process) -> None:
    client = ollama.Client(host=bundle_server.url, timeout=60)
    tool = {"type": "function", "function": {"name": "weather", "description": "", "parameters": WEATHER}}
    call = {"function": {"name": "weather", "arguments": {"city": "Paris", "days": 3}}}
    messages = [
        {"role": "user", "content": "The weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "weather", "content": "Rain on all three days."},
    ]
    answer = client.chat("any", messages, tools=[tool], options={"num_predict": 40})
    assert answer.message.content or answer.message.tool_calls
    client._client.close()
