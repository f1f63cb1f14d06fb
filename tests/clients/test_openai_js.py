"""Clients for JavaScript that speak OpenAI's dialect, unchanged: OpenAI's own, and Vercel's AI SDK."""

from collections.abc import Iterator

import pytest

from tests.clients.awkward import PIECES, TEXT
from tests.clients.node import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

OPENAI_PACKAGES = ("openai@7.55.0",)
OPENAI = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.ADDRESS + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "developer", content: "Be kind." }, { role: "user", content: "Hi" }];
const asked = { model: "any", messages, max_completion_tokens: 50 };
const whole = await client.chat.completions.create(asked);
let streamed = "", usage;
const streaming = { ...asked, stream: true, stream_options: { include_usage: true } };
const stream = await client.chat.completions.create(streaming);
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
const helped = await client.chat.completions.stream(asked).finalContent();
const completed = (await client.completions.create({ model: "any", prompt: "Hi" })).choices[0].text;
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const one = (await client.models.retrieve(models[0])).id;
const vectors = await client.embeddings.create({ model: "any", input: ["ab", "c"] });
const refusal = await client.chat.completions.create({ ...asked, messages: [] }).catch((error) => error.param);
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, streamed, helped, completed, models, one, refusal,
  tokens: usage.completion_tokens, embedded: vectors.data.map((each) => each.embedding.length),
}));
"""

VERCEL_PACKAGES = ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92")
VERCEL = """
import { generateText, streamText, embedMany } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const holdall = createOpenAICompatible({ name: "holdall", baseURL: process.env.ADDRESS + "/v1", includeUsage: true });
const asked = { model: holdall("any"), system: "Be kind.", prompt: "Hi", maxRetries: 0, maxOutputTokens: 50 };
const whole = await generateText(asked);
const stream = streamText(asked);
let streamed = "";
for await (const piece of stream.textStream) streamed += piece;
const { embeddings } = await embedMany({ model: holdall.embeddingModel("any"), values: ["ab", "c"] });
console.log(JSON.stringify({
  whole: whole.text, streamed, finish: await stream.finishReason, tokens: (await stream.usage).outputTokens,
  embedded: embeddings.map((vector) => vector.length),
}));
"""


def test_openais_own_client(awkward_server: str) -> None:
    answers = run_script(OPENAI, OPENAI_PACKAGES, ADDRESS=awkward_server)
    assert [answers.pop(name) for name in ("whole", "streamed", "helped", "completed")] == [TEXT] * 4
    assert answers == {
        "models": ["scripted"],
        "one": "scripted",
        "refusal": "messages",
        "tokens": len(PIECES),
        "embedded": [8, 8],
    }


def test_vercels_ai_sdk(awkward_server: str) -> None:
    answers = run_script(VERCEL, VERCEL_PACKAGES, ADDRESS=awkward_server)
    assert answers == {
        "whole": TEXT,
        "streamed": TEXT,
        "finish": "stop",
        "tokens": len(PIECES),
        "embedded": [8, 8],
    }


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'

OPENAI_TOOLS = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.ADDRESS + "/v1", apiKey: "none", maxRetries: 0 });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { name: "weather", description: "Tells the weather.", parameters };
const asked = { model: "any", messages: [{ role: "user", content: "Hi" }] };
const stream = client.chat.completions.stream({ ...asked, tools: [{ type: "function", function: weather }] });
const parts = [];
stream.on("tool_calls.function.arguments.delta", (event) => parts.push(event.arguments_delta));
const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
const cities = [];
const run = { ...weather, parse: JSON.parse, function: ({ city }) => (cities.push(city), "Rain.") };
const tools = [{ type: "function", function: run }];
const loop = client.chat.completions.runTools({ ...asked, tools }, { maxChatCompletions: 2 });
await loop.done();
console.log(JSON.stringify({ call: [call.function.name, call.function.arguments], parts: parts.join(""), cities }));
"""

VERCEL_TOOLS = """
import { generateText, streamText, tool, jsonSchema, stepCountIs } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const holdall = createOpenAICompatible({ name: "holdall", baseURL: process.env.ADDRESS + "/v1" });
const inputSchema = jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] });
const cities = [];
const execute = async ({ city }) => (cities.push(city), "Rain.");
const tools = { weather: tool({ description: "Tells the weather.", inputSchema, execute }) };
const asked = { model: holdall("any"), prompt: "Hi", maxRetries: 0, tools, stopWhen: stepCountIs(2) };
const { steps } = await generateText(asked);
const streamed = await streamText(asked).steps;
const shown = (steps) => steps.map((step) => [step.finishReason, step.toolCalls.map((call) => call.input)]);
console.log(JSON.stringify({ whole: shown(steps), streamed: shown(streamed), cities }));
"""


@pytest.fixture(scope="module")
def caller_address() -> Iterator[str]:
    """A server whose model calls a tool."""
    with serving_from_a_thread(make_app(ScriptedEngine(list(CALL)))) as address:
        yield address


def test_openais_own_client_calls_tools(caller_address: str) -> None:
    answers = run_script(OPENAI_TOOLS, OPENAI_PACKAGES, ADDRESS=caller_address)
    arguments = '{"city": "Köln"}'
    assert answers == {"call": ["weather", arguments], "parts": arguments, "cities": ["Köln"] * 2}


def test_vercels_ai_sdk_calls_tools(caller_address: str) -> None:
    answers = run_script(VERCEL_TOOLS, VERCEL_PACKAGES, ADDRESS=caller_address)
    steps = [["tool-calls", [{"city": "Köln"}]]] * 2
    assert answers == {"whole": steps, "streamed": steps, "cities": ["Köln"] * 4}
