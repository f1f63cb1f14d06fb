"""The official ollama clients for Python and JavaScript, and LangChain's, unchanged."""

import importlib
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.clients.node import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

AWKWARD = ["Hello", "", " wor\u2028ld\x85", "\x0b ü🎈\n\n"]
TEXT = "".join(AWKWARD)
HI = [{"role": "user", "content": "Hi"}]
JS = ("ollama@0.6.4",)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(AWKWARD))) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[ollama.Client]:
    client = ollama.Client(host=address, timeout=10)
    yield client
    client._client.close()  # it has no way of its own, and an open socket is a warning


def test_a_whole_chat(client: ollama.Client) -> None:
    reply = client.chat("any", HI, options={"num_ctx": 4096, "temperature": 0}, keep_alive="5m")
    assert (reply.message.role, reply.message.content, reply.done_reason) == ("assistant", TEXT, "stop")
    assert reply.eval_count == 4
    assert reply.total_duration


def test_a_streamed_chat(client: ollama.Client) -> None:
    pieces = list(client.chat("any", HI, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == TEXT
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_generate(client: ollama.Client) -> None:
    first = client.generate("any", "Hi", system="Be kind", options={"stop": ["\n"]})
    assert first.response == TEXT.rstrip("\n")
    second = client.generate("any", "And?", context=first.context, format="json")
    assert list(second.context or [])[: len(first.context or [])] == list(first.context or [])
    assert "".join(piece.response or "" for piece in client.generate("any", "Hi", raw=True, stream=True)) == TEXT


def test_logprobs(client: ollama.Client) -> None:
    reply = client.generate("any", "Hi", logprobs=True, top_logprobs=2)
    assert [token.token for token in reply.logprobs or []] == AWKWARD
    assert [len(token.top_logprobs or []) for token in reply.logprobs or []] == [2] * 4


def test_vectors(client: ollama.Client) -> None:
    reply = client.embed("any", ["abc", "d"])
    assert [len(vector) for vector in reply.embeddings] == [8, 8]
    assert client.embeddings("any", "abc").embedding[0] == 3.0


def test_the_library(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert (listed.model, listed.details.quantization_level) == ("scripted:latest", "Q4_K_M")  # type: ignore[union-attr]
    assert client.ps().models[0].context_length == 4096
    shown = client.show(str(listed.model))
    assert (shown.modelinfo or {})["script.context_length"] == 8192
    assert "completion" in (shown.capabilities or [])
    assert client.pull("scripted").status == "success"
    assert [step.status for step in client.pull("scripted", stream=True)][-1] == "success"


def test_what_is_refused_is_told_as_an_error_with_a_status(client: ollama.Client) -> None:
    for status, ask in [
        (404, lambda: client.show("llama3")),
        (501, lambda: client.delete("scripted")),
        (501, lambda: client.copy("scripted", "other")),
        (501, lambda: client.create("other", from_="scripted")),
        (501, lambda: client.push("scripted")),
        (400, lambda: client.generate("any", "Hi", template="x")),
    ]:
        with pytest.raises(ollama.ResponseError) as refusal:
            ask()
        assert refusal.value.status_code == status
        assert refusal.value.error


def test_a_failure_within_a_stream_is_raised() -> None:
    engine = ScriptedEngine(["Hello"], error=RuntimeError("broken"))
    with serving_from_a_thread(make_app(engine)) as address:
        client = ollama.Client(host=address, timeout=10)
        with pytest.raises(ollama.ResponseError, match="failed to answer"):
            list(client.chat("any", HI, stream=True))
        client._client.close()


# -- tools and thinking -----------------------------------------------------------------------------------------------

THOUGHT = "<think>\nWhere?\n</think>\n\n"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
THINKER = "{% for message in messages %}{{ message.content.split('</think>')[-1] }}{% endfor %}"


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: where
    """
    return f"Rain in {city}."


@pytest.fixture(scope="module")
def caller_address() -> Iterator[str]:
    """A server whose model thinks, and then calls a tool."""
    engine = ScriptedEngine(list(THOUGHT + CALL), chat_template=THINKER)
    with serving_from_a_thread(make_app(engine)) as address:
        yield address


def test_a_call_whole_and_streamed_and_its_result(caller_address: str) -> None:
    client = ollama.Client(host=caller_address, timeout=10)
    whole = client.chat("any", HI, tools=[weather], think=True).message
    streamed = [piece.message for piece in client.chat("any", HI, tools=[weather], think="low", stream=True)]
    assert whole.thinking == "".join(piece.thinking or "" for piece in streamed) == "Where?"
    for calls in (whole.tool_calls, [call for piece in streamed for call in piece.tool_calls or []]):
        assert [(call.function.name, call.function.arguments) for call in calls or []] == [
            ("weather", {"city": "Köln"})
        ]
    # The client's own objects go back as they came.
    history = [*HI, whole, {"role": "tool", "tool_name": "weather", "content": weather("Köln")}]
    assert client.chat("any", history, tools=[weather]).message.tool_calls
    assert "thinking" in (client.show("scripted").capabilities or [])
    client._client.close()


def test_langchain_ollama_calls_tools(caller_address: str) -> None:
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_ollama import ChatOllama

    llm = ChatOllama(model="scripted", base_url=caller_address, reasoning=True)
    bound = llm.bind_tools([weather])
    answer = bound.invoke("Hi")
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Köln"})
    assert answer.additional_kwargs["reasoning_content"] == "Where?"
    result = ToolMessage("Rain.", tool_call_id=call["id"])
    assert bound.invoke([("user", "Hi"), answer, result]).tool_calls
    _close(llm)


TOOLS_SCRIPT = """
import { Ollama } from "ollama";
const ollama = new Ollama({ host: process.env.ADDRESS });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", description: "", parameters } }];
const asked = { model: "any", messages: [{ role: "user", content: "Hi" }], tools, think: true };
const whole = (await ollama.chat(asked)).message;
let thinking = "", calls = [];
for await (const piece of await ollama.chat({ ...asked, stream: true })) {
  thinking += piece.message.thinking ?? "";
  calls.push(...(piece.message.tool_calls ?? []));
}
const shown = (calls) => calls.map((call) => [call.function.name, call.function.arguments]);
console.log(JSON.stringify({
  whole: [whole.thinking, shown(whole.tool_calls)], streamed: [thinking, shown(calls)],
}));
"""


def test_the_client_for_javascript_calls_tools(caller_address: str) -> None:
    answer = ["Where?", [["weather", {"city": "Köln"}]]]
    assert run_script(TOOLS_SCRIPT, JS, ADDRESS=caller_address) == {"whole": answer, "streamed": answer}


# -- LangChain --------------------------------------------------------------------------------------------------------


def test_langchain_ollama_chats(address: str) -> None:
    from langchain_ollama import ChatOllama

    llm = ChatOllama(model="scripted", base_url=address, validate_model_on_init=True, num_predict=20, seed=1)
    reply = llm.invoke("Hi")
    assert reply.content == TEXT
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == 4
    assert "".join(str(piece.content) for piece in llm.stream("Hi")) == TEXT
    _close(llm)


def test_langchain_ollama_completes_and_embeds(address: str) -> None:
    from langchain_ollama import OllamaEmbeddings, OllamaLLM

    llm = OllamaLLM(model="scripted", base_url=address)
    assert llm.invoke("Hi") == TEXT
    assert "".join(llm.stream("Hi")) == TEXT
    embeddings = OllamaEmbeddings(model="scripted", base_url=address)
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [8, 8]
    _close(llm)
    _close(embeddings)


def _close(model: Any) -> None:
    model._client._client.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_langchain_community_completes_and_embeds(address: str) -> None:
    llms = importlib.import_module("langchain_community.llms.ollama")
    llm = llms.Ollama(base_url=address, model="any", num_ctx=2048)
    assert llm.invoke("Hi") == TEXT
    assert "".join(llm.stream("Hi")) == TEXT
    vectors = importlib.import_module("langchain_community.embeddings.ollama")
    embeddings = vectors.OllamaEmbeddings(base_url=address, model="any")
    assert embeddings.embed_query("ab")[0] == len("query: ab")


# -- JavaScript -------------------------------------------------------------------------------------------------------


SCRIPT = """
import { Ollama } from "ollama";
const ollama = new Ollama({ host: process.env.ADDRESS });
const messages = [{ role: "user", content: "Hi" }];
const whole = await ollama.chat({ model: "any", messages });
let streamed = "";
const pieces = await ollama.chat({ model: "any", messages, stream: true });
for await (const piece of pieces) streamed += piece.message.content;
const generated = await ollama.generate({ model: "any", prompt: "Hi" });
const listed = (await ollama.list()).models.map((model) => model.name);
const embedded = (await ollama.embed({ model: "any", input: ["a", "b"] })).embeddings.length;
const running = (await ollama.ps()).models.length;
const shown = (await ollama.show({ model: listed[0] })).details.family;
const pulled = (await ollama.pull({ model: listed[0] })).status;
const version = (await ollama.version()).version;
const refusal = await ollama.show({ model: "llama3" }).catch((error) => error.message);
console.log(JSON.stringify({
  whole: whole.message.content, streamed, generated: generated.response, listed, embedded, running, shown, pulled,
  version, refusal,
}));
"""


def test_the_client_for_javascript(address: str) -> None:
    answers = run_script(SCRIPT, JS, ADDRESS=address)
    assert [answers.pop(name) for name in ("whole", "streamed", "generated")] == [TEXT] * 3
    assert answers.pop("version").count(".") == 2
    assert answers == {
        "listed": ["scripted:latest"],
        "embedded": 2,
        "running": 1,
        "shown": "script",
        "pulled": "success",
        "refusal": "model 'llama3' not found; the only one here is 'scripted:latest'",
    }


# -- Open WebUI, by the requests it sends -----------------------------------------------------------------------------


def test_open_webui_finds_what_it_asks_for(address: str) -> None:
    import httpx

    with httpx.Client(base_url=address, timeout=10, headers={"Content-Type": "application/json"}) as client:
        assert client.head("/api/version").status_code == 200
        assert all(part.isdigit() for part in client.get("/api/version").json()["version"].split("."))
        (model,) = client.get("/api/tags").json()["models"]
        assert model["name"] == model["model"]
        assert client.get("/api/ps").json()["models"][0]["name"] == model["name"]
        chat = {
            "model": model["model"],
            "messages": HI,
            "stream": True,
            "options": {"num_ctx": 2048, "temperature": 0.7, "stop": []},
            "keep_alive": "5m",
            "format": "",
        }
        lines = client.post("/api/chat", json=chat).text.splitlines()
        assert len(lines) == 4
        embed = {"model": model["model"], "input": ["a"], "truncate": True}
        assert len(client.post("/api/embed", json=embed).json()["embeddings"]) == 1
        assert "model_info" in client.post("/api/show", json={"name": model["name"]}).json()
