"""The official openai client, unchanged."""

from collections.abc import Iterator

import openai
import pytest

from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

HI: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    app = make_app(ScriptedEngine(["Hello", " world \u2028🎈"]), model_alias="org/name")
    with (
        serving_from_a_thread(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=10) as client,
    ):
        yield client


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="any", messages=HI, max_completion_tokens=50, seed=1)
    assert reply.choices[0].message.content == "Hello world \u2028🎈"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 2


def test_streamed_chat(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="any", messages=HI, stream=True, stream_options={"include_usage": True}, stop=["xyz"]
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Hello world \u2028🎈"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 2


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="any", prompt="Hi", max_tokens=1).choices[0].text == "Hello"
    stream = client.completions.create(model="any", prompt="Hi", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hello world \u2028🎈"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["org/name"]
    assert client.models.retrieve("org/name").owned_by == "holdall"
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.models.retrieve("other")


def test_a_refusal_names_the_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="any", messages=HI, n=2)
    assert refusal.value.param == "n"


def test_a_failure_within_a_stream_is_raised() -> None:
    app = make_app(ScriptedEngine(["Hello"], error=RuntimeError("broken")))
    with (
        serving_from_a_thread(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=10) as client,
    ):
        stream = client.chat.completions.create(model="any", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="failed to answer"):
            list(stream)


def test_embeddings_come_as_floats_though_the_client_asks_for_base64(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model="any", input=["ab", "c"])
    assert [len(each.embedding) for each in reply.data] == [8, 8]
    assert reply.data[0].embedding[1] > 0.9
    tokens = client.embeddings.create(model="any", input=[[97, 98], [99]])
    assert [each.embedding for each in tokens.data] == [each.embedding for each in reply.data]
