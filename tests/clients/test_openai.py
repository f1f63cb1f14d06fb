"""The official openai client, unchanged."""

from collections.abc import Iterator

import openai
import pydantic
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
        client.chat.completions.create(model="any", messages=HI, n=0)
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


def test_logprobs(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="any", messages=HI, logprobs=True, top_logprobs=2)
    told = reply.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert [token.token for token in told.content] == ["Hello", " world \u2028🎈"]
    assert [len(token.top_logprobs) for token in told.content] == [2, 2]


def test_logprobs_of_a_completion(client: openai.OpenAI) -> None:
    told = client.completions.create(model="any", prompt="Hi", logprobs=2).choices[0].logprobs
    assert told is not None
    assert told.tokens == ["Hello", " world \u2028🎈"]
    assert told.text_offset == [0, 5]


def test_an_answer_parsed_by_its_model(client: openai.OpenAI) -> None:
    """The client makes a schema of a pydantic model; this server's engine is scripted, so only that it is taken."""

    class Person(pydantic.BaseModel):
        """Somebody."""

        name: str = pydantic.Field(description="first name", max_length=20)
        nickname: str | None = None
        friends: list["Person"] = []

    with pytest.raises(pydantic.ValidationError):
        client.chat.completions.parse(model="any", messages=HI, response_format=Person)


class GetWeather(pydantic.BaseModel):
    """Tells the weather."""

    city: str
    days: int = 1


CALLS = [
    "One moment.\n<tool",
    '_call>\n{"name": "GetWeather", "arguments": {"city": "Oslo"',
    ', "days": 2}}\n</tool_call>',
]
CALLS += ['\n<tool_call>\n{"name": "GetWeather", "arguments": {"city": "Rome", "days": 1}}\n</tool_call>']


@pytest.fixture(scope="module")
def caller() -> Iterator[openai.OpenAI]:
    """The client of a model that calls two tools."""
    with (
        serving_from_a_thread(make_app(ScriptedEngine(CALLS))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=10) as client,
    ):
        yield client


TOOLS: list[openai.types.chat.ChatCompletionToolUnionParam] = [openai.pydantic_function_tool(GetWeather)]


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "GetWeather"}}])
def test_calls_of_tools(caller: openai.OpenAI, choice: openai.types.chat.ChatCompletionToolChoiceOptionParam) -> None:
    reply = caller.chat.completions.create(model="any", messages=HI, tools=TOOLS, tool_choice=choice)
    assert reply.choices[0].finish_reason == "tool_calls"
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    names = [(call.function.name, call.function.arguments) for call in calls if call.type == "function"]
    assert names == [("GetWeather", '{"city": "Oslo", "days": 2}'), ("GetWeather", '{"city": "Rome", "days": 1}')]
    assert len({call.id for call in calls}) == 2


def test_streamed_calls_add_up(caller: openai.OpenAI) -> None:
    with caller.chat.completions.stream(model="any", messages=HI, tools=TOOLS) as stream:
        events = list(stream)
        message = stream.get_final_completion().choices[0].message
    assert message.content == "One moment."
    assert [call.function.parsed_arguments for call in message.tool_calls or []] == [
        GetWeather(city="Oslo", days=2),
        GetWeather(city="Rome", days=1),
    ]
    assert [event.type for event in events].count("tool_calls.function.arguments.done") == 2


def test_calls_parsed_by_their_models(caller: openai.OpenAI) -> None:
    reply = caller.chat.completions.parse(model="any", messages=HI, tools=TOOLS)
    calls = reply.choices[0].message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [
        GetWeather(city="Oslo", days=2),
        GetWeather(city="Rome", days=1),
    ]


def test_a_call_and_its_result_go_back(caller: openai.OpenAI) -> None:
    called = caller.chat.completions.create(model="any", messages=HI, tools=TOOLS).choices[0].message
    assert called.tool_calls is not None
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in called.tool_calls]
    messages = [*HI, called, *results]
    reply = caller.chat.completions.create(model="any", messages=messages, tools=TOOLS, tool_choice="none")  # type: ignore[arg-type]
    assert reply.choices[0].finish_reason == "stop"


def test_several_choices(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="any", messages=HI, n=3)
    assert [choice.message.content for choice in reply.choices] == ["Hello world \u2028🎈"] * 3
    chunks = list(client.chat.completions.create(model="any", messages=HI, n=2, stream=True))
    for index in range(2):
        parts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(parts) == "Hello world \u2028🎈"


def test_thinking_comes_as_reasoning_content() -> None:
    app = make_app(ScriptedEngine(["<think>Hm", ".</think>\n", "Hello"]))
    with (
        serving_from_a_thread(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=10) as client,
    ):
        message = client.chat.completions.create(model="any", messages=HI, reasoning_effort="low").choices[0].message
    assert message.content == "Hello"
    assert (message.model_extra or {})["reasoning_content"] == "Hm."
