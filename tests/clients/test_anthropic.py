"""The official Anthropic clients for Python and JavaScript, unchanged; the first one checks every answer strictly."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.clients.node import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

AWKWARD = ["Hello", "", " wor\u2028ld\x85", "\x0b ü🎈\n\n", "data: x"]
TEXT = "".join(AWKWARD)
HI: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]
JS = ("@anthropic-ai/sdk@1.11.0",)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(AWKWARD))) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=address, api_key="none", max_retries=0, timeout=10, _strict_response_validation=True
    ) as client:
        yield client


def test_a_whole_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(
        model="any", max_tokens=50, messages=HI, system="Be kind.", extra_body={"top_k": 3}
    )
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 5)


def test_a_stream_of_events(client: anthropic.Anthropic) -> None:
    events = list(client.messages.create(model="any", max_tokens=50, messages=HI, stream=True))
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")


def test_a_stream_that_the_client_puts_together(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="any", max_tokens=50, messages=HI, stop_sequences=["data"]) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == TEXT.removesuffix("data: x")
    assert message.content[0].type == "text"
    assert (message.content[0].text, message.stop_reason, message.stop_sequence) == (text, "stop_sequence", "data")
    assert message.usage.cache_read_input_tokens == 1


def test_counting_tokens(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="any", messages=HI)
    used = client.messages.create(model="any", max_tokens=1, messages=HI).usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_models(client: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").display_name == "scripted"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("other")


def test_a_refusal(client: anthropic.Anthropic) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    with pytest.raises(anthropic.BadRequestError, match="this model reads text only") as refusal:
        client.messages.create(model="any", max_tokens=5, messages=[{"role": "user", "content": [image]}])  # type: ignore[list-item]
    assert refusal.value.type == "invalid_request_error"


def test_a_failure_within_a_stream_is_raised() -> None:
    app = make_app(ScriptedEngine(["Hello"], error=RuntimeError("broken")))
    with (
        serving_from_a_thread(app) as address,
        anthropic.Anthropic(base_url=address, api_key="none", max_retries=0, timeout=10) as client,
        pytest.raises(anthropic.APIStatusError, match="failed to answer"),
    ):
        list(client.messages.create(model="any", max_tokens=5, messages=HI, stream=True))


SCRIPT = """
import Anthropic from "@anthropic-ai/sdk";
const client = new Anthropic({ baseURL: process.env.ADDRESS, apiKey: "none", maxRetries: 0 });
const asked = { model: "any", max_tokens: 50, messages: [{ role: "user", content: "Hi" }] };
const whole = await client.messages.create(asked);
const streamed = await client.messages.stream(asked).finalMessage();
const counted = await client.messages.countTokens({ model: "any", messages: asked.messages });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const refusal = await client.messages.create({ ...asked, messages: [] }).catch((error) => error.status);
console.log(JSON.stringify({
  whole: whole.content[0].text, streamed: streamed.content[0].text, counted: counted.input_tokens, models, refusal,
}));
"""


def test_the_client_for_javascript(address: str) -> None:
    answers = run_script(SCRIPT, JS, ADDRESS=address)
    assert answers.pop("counted") > 2
    assert answers == {"whole": TEXT, "streamed": TEXT, "models": ["scripted"], "refusal": 400}


# -- tools and thinking -----------------------------------------------------------------------------------------------

THOUGHT = "<think>\nWhere?\n</think>\n\n"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
WEATHER: anthropic.types.ToolParam = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def caller_address() -> Iterator[str]:
    """A server whose model thinks, and then calls a tool."""
    with serving_from_a_thread(make_app(ScriptedEngine(list(THOUGHT + CALL)))) as address:
        yield address


def test_a_call_whole_and_streamed_and_its_result(caller_address: str) -> None:
    with anthropic.Anthropic(
        base_url=caller_address, api_key="none", max_retries=0, timeout=10, _strict_response_validation=True
    ) as client:
        asked: dict[str, Any] = {
            "model": "any",
            "max_tokens": 2000,
            "tools": [WEATHER],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        whole = client.messages.create(messages=HI, **asked)
        with client.messages.stream(messages=HI, **asked) as stream:
            partial = [event.snapshot for event in stream if event.type == "input_json"]
            streamed = stream.get_final_message()
        for message in (whole, streamed):
            thinking, call = message.content
            assert thinking.type == "thinking"
            assert (thinking.thinking, bool(thinking.signature)) == ("Where?", True)
            assert call.type == "tool_use"
            assert (call.name, call.input, message.stop_reason) == ("weather", {"city": "Köln"}, "tool_use")
        assert partial[-1] == {"city": "Köln"}
        # The client's own objects go back as they came.
        history: list[anthropic.types.MessageParam] = [
            *HI,
            {"role": "assistant", "content": whole.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain."}]},
        ]
        assert client.messages.create(messages=history, **asked).stop_reason == "tool_use"


def test_the_clients_own_loop_over_tools_which_would_keep_the_conversation_here(caller_address: str) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        asked.append(city)
        return "Rain."

    with anthropic.Anthropic(base_url=caller_address, api_key="none", max_retries=0, timeout=10) as client:
        runner = client.beta.messages.tool_runner(
            model="any", max_tokens=500, messages=HI, tools=[weather], max_iterations=2
        )
        last = runner.until_done()
    assert asked == ["Köln"] * 2
    assert last.stop_reason == "tool_use"


TOOLS_SCRIPT = """
import Anthropic from "@anthropic-ai/sdk";
const client = new Anthropic({ baseURL: process.env.ADDRESS, apiKey: "none", maxRetries: 0 });
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const asked = {
  model: "any", max_tokens: 2000, thinking: { type: "enabled", budget_tokens: 1024 },
  tools: [{ name: "weather", input_schema: schema }], tool_choice: { type: "auto" },
  messages: [{ role: "user", content: "Hi" }],
};
const whole = await client.messages.create(asked);
const streamed = await client.messages.stream(asked).finalMessage();
const shown = (message) => message.content.map((block) => block.thinking ?? [block.name, block.input]);
const cities = [];
const run = ({ city }) => (cities.push(city), "Rain.");
const weather = { ...asked.tools[0], type: "custom", run, parse: (input) => input };
const { thinking, tool_choice, ...rest } = asked;
const last = await client.beta.messages.toolRunner({ ...rest, tools: [weather], max_iterations: 2 }).runUntilDone();
console.log(JSON.stringify({
  whole: shown(whole), streamed: shown(streamed), reason: streamed.stop_reason, cities, last: last.stop_reason,
}));
"""


def test_the_client_for_javascript_calls_tools(caller_address: str) -> None:
    answers = run_script(TOOLS_SCRIPT, JS, ADDRESS=caller_address)
    blocks = ["Where?", ["weather", {"city": "Köln"}]]
    cities = answers.pop("cities")
    assert cities == ["Köln"] * 2
    assert answers == {"whole": blocks, "streamed": blocks, "reason": "tool_use", "last": "tool_use"}
