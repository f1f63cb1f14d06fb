"""OpenAI's responses with the official clients for Python and JavaScript, and with Vercel's, unchanged."""

import json
from collections.abc import Iterator, Sequence

import openai
import pydantic
import pytest
from openai.types.responses import FunctionToolParam

from tests.clients.node import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

OPENAI_JS = ("openai@7.57.0",)
VERCEL = ("ai@7.0.173", "@ai-sdk/openai@4.0.118", "zod@4.4.3")
TEXT = "Hello world \u2028🎈"
THOUGHT = ["<think>\nLet me", " see.\n</think>\n\n", "It is ", "fine."]
CALL = ['<tool_call>\n{"name": "weather", "argu', 'ments": {"city": "Par', 'is"}}\n</tool_call>']
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def address_of(pieces: Sequence[str]) -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(pieces))) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    yield from address_of(["Hello", " world \u2028🎈"])


@pytest.fixture(scope="module")
def calling() -> Iterator[str]:
    yield from address_of(CALL)


@pytest.fixture(scope="module")
def thinking() -> Iterator[str]:
    yield from address_of(THOUGHT)


def client_of(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=10)


# -- Python -----------------------------------------------------------------------------------------------------------


def test_one_response_after_another(address: str) -> None:
    with client_of(address) as client:
        first = client.responses.create(model="any", input="Hi", instructions="Be brief.", max_output_tokens=50)
        assert first.output_text == TEXT
        assert first.usage is not None
        assert first.usage.output_tokens == 2
        second = client.responses.create(model="any", input="And?", previous_response_id=first.id)
        assert second.usage is not None
        assert second.usage.input_tokens > first.usage.total_tokens
        assert client.responses.retrieve(second.id).output_text == TEXT
        assert [item.type for item in client.responses.input_items.list(second.id)] == ["message"]
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(second.id)
        assert client.responses.input_tokens.count(model="any", input="Hi").input_tokens > 2


def test_what_was_put_out_can_be_put_in_again(thinking: str, calling: str) -> None:
    for address in (thinking, calling):
        with client_of(address) as client:
            first = client.responses.create(model="any", input="Hi", tools=[WEATHER], store=False)
            items = [{"role": "user", "content": "Hi"}, *(item.to_dict() for item in first.output)]
            items += [
                {"type": "function_call_output", "call_id": item.call_id, "output": "fine"}
                for item in first.output
                if item.type == "function_call"
            ]
            items += [{"role": "user", "content": "And?"}]
            again = client.responses.create(model="any", input=items, tools=[WEATHER])  # type: ignore[arg-type]
            assert again.status == "completed"


def test_a_stream(address: str) -> None:
    with client_of(address) as client:
        events = list(client.responses.create(model="any", input="Hi", stream=True))
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
        assert events[-1].type == "response.completed"
        with client.responses.stream(model="any", input="Hi") as stream:
            assert stream.get_final_response().output_text == TEXT


def test_a_call_whole_and_streamed(calling: str) -> None:
    with client_of(calling) as client:
        whole = client.responses.create(model="any", input="Hi", tools=[WEATHER], tool_choice="required")
        with client.responses.stream(model="any", input="Hi", tools=[WEATHER], tool_choice="required") as stream:
            streamed = stream.get_final_response()
        for response in (whole, streamed):
            (call,) = response.output
            assert call.type == "function_call"
            assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})


def test_thinking(thinking: str) -> None:
    with client_of(thinking) as client:
        with client.responses.stream(model="any", input="Hi") as stream:
            events = list(stream)
            response = stream.get_final_response()
        assert (
            "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == "Let me see."
        )
        assert response.output_text == "It is fine."
        assert [item.type for item in response.output] == ["reasoning", "message"]


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str


def test_an_answer_parsed_by_its_model() -> None:
    with (
        serving_from_a_thread(make_app(ScriptedEngine(['{"name": ', '"Ann"}']))) as address,
        client_of(f"{address}/v1") as client,
    ):
        response = client.responses.parse(model="any", input="Hi", text_format=Person)
        assert response.output_parsed == Person(name="Ann")
        with client.responses.stream(model="any", input="Hi", text_format=Person) as stream:
            assert stream.get_final_response().output_parsed == Person(name="Ann")


def test_a_failure_within_a_stream() -> None:
    app = make_app(ScriptedEngine(["Hello"], error=RuntimeError("broken")))
    with serving_from_a_thread(app) as address, client_of(f"{address}/v1") as client:
        events = list(client.responses.create(model="any", input="Hi", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]


# -- JavaScript -------------------------------------------------------------------------------------------------------

OPENAI_SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.ADDRESS, apiKey: "none", maxRetries: 0 });
const asked = { model: "any", input: "Hi" };
const whole = await client.responses.create(asked);
const streamed = await client.responses.stream(asked).finalResponse();
const next = await client.responses.create({ ...asked, previous_response_id: whole.id });
const kept = await client.responses.retrieve(next.id);
const refusal = await client.responses.create({ ...asked, background: true }).catch((error) => error.param);
const weather = JSON.parse(process.env.WEATHER);
const calling = new OpenAI({ baseURL: process.env.CALLING, apiKey: "none", maxRetries: 0 });
const called = await calling.responses.stream({ ...asked, tools: [weather] }).finalResponse();
const completed = await client.completions.create({ model: "any", prompt: ["a", "b"], n: 2, echo: true });
console.log(JSON.stringify({
  whole: whole.output_text, streamed: streamed.output_text, kept: kept.previous_response_id === whole.id, refusal,
  called: called.output.map((item) => [item.name, JSON.parse(item.arguments)]),
  completed: completed.choices.map((choice) => choice.text),
}));
"""


def test_the_client_for_javascript(address: str, calling: str) -> None:
    answers = run_script(OPENAI_SCRIPT, OPENAI_JS, ADDRESS=address, CALLING=calling, WEATHER=json.dumps(WEATHER))
    assert answers == {
        "whole": TEXT,
        "streamed": TEXT,
        "kept": True,
        "refusal": "background",
        "called": [["weather", {"city": "Paris"}]],
        "completed": [f"a{TEXT}", f"a{TEXT}", f"b{TEXT}", f"b{TEXT}"],
    }


VERCEL_SCRIPT = """
import { generateText, streamText, Output, tool, stepCountIs } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { z } from "zod";
const model = (baseURL) => createOpenAI({ baseURL, apiKey: "none" }).responses("any");
const whole = await generateText({ model: model(process.env.ADDRESS), prompt: "Hi", maxRetries: 0 });
const stream = streamText({ model: model(process.env.ADDRESS), prompt: "Hi", maxRetries: 0 });
let streamed = "";
for await (const piece of stream.textStream) streamed += piece;
const usage = await stream.usage;
const cities = [];
const weather = tool({
  description: "Tell the weather",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => { cities.push(city); return "fine"; },
});
const called = await generateText({
  model: model(process.env.CALLING), prompt: "Hi", tools: { weather }, stopWhen: stepCountIs(2), maxRetries: 0,
});
const streamedCall = streamText({
  model: model(process.env.CALLING), prompt: "Hi", tools: { weather }, stopWhen: stepCountIs(2), maxRetries: 0,
});
await streamedCall.consumeStream();
const person = await generateText({
  model: model(process.env.PERSON), prompt: "Hi", maxRetries: 0,
  output: Output.object({ schema: z.object({ name: z.string() }) }),
});
console.log(JSON.stringify({
  whole: whole.text, streamed, generated: usage.outputTokens, steps: called.steps.length, cities,
  person: person.output,
}));
"""


def test_vercels_client(address: str, calling: str) -> None:
    with serving_from_a_thread(make_app(ScriptedEngine(['{"name": ', '"Ann"}']))) as person:
        answers = run_script(VERCEL_SCRIPT, VERCEL, ADDRESS=address, CALLING=calling, PERSON=f"{person}/v1")
    assert answers == {
        "whole": TEXT,
        "streamed": TEXT,
        "generated": 2,
        "steps": 2,
        "cities": ["Paris"] * 4,
        "person": {"name": "Ann"},
    }
