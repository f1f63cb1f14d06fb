"""OpenAI's chat completions with JavaScript clients: the official one, and Vercel's for compatible servers."""

from collections.abc import Iterator

import pytest

from tests.clients.node import run_script
from tests.fakes import ScriptedEngine
from tests.serving import make_app, serving_from_a_thread

OPENAI = ("openai@7.57.0",)
VERCEL = ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92")
TEXT = "Hello world \u2028🎈"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_from_a_thread(make_app(ScriptedEngine(["Hello", " world \u2028🎈"]))) as address:
        yield f"{address}/v1"


OPENAI_SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.ADDRESS, apiKey: "none", maxRetries: 0 });
const asked = { model: "any", messages: [{ role: "user", content: "Hi" }] };
const whole = await client.chat.completions.create({ ...asked, n: 2, logprobs: true, top_logprobs: 1 });
const stream = await client.chat.completions.create({
  ...asked, stream: true, stream_options: { include_usage: true },
});
let streamed = "", generated = 0;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  generated += chunk.usage?.completion_tokens ?? 0;
}
const vector = (await client.embeddings.create({ model: "any", input: "Hi" })).data[0].embedding.length;
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const refusal = await client.chat.completions.create({ ...asked, messages: [] }).catch((error) => error.param);
console.log(JSON.stringify({
  whole: whole.choices.map((choice) => choice.message.content), tokens: whole.choices[0].logprobs.content.length,
  streamed, generated, vector, models, refusal,
}));
"""


def test_the_official_client(address: str) -> None:
    answers = run_script(OPENAI_SCRIPT, OPENAI, ADDRESS=address)
    assert answers == {
        "whole": [TEXT, TEXT],
        "tokens": 2,
        "streamed": TEXT,
        "generated": 2,
        "vector": 8,
        "models": ["scripted"],
        "refusal": "messages",
    }


VERCEL_SCRIPT = """
import { generateText, streamText, embed } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const server = createOpenAICompatible({ name: "holdall", baseURL: process.env.ADDRESS, includeUsage: true });
const whole = await generateText({ model: server("any"), prompt: "Hi", maxRetries: 0 });
const stream = streamText({ model: server("any"), prompt: "Hi", maxRetries: 0 });
let streamed = "";
for await (const piece of stream.textStream) streamed += piece;
const usage = await stream.usage;
const completed = await generateText({ model: server.completionModel("any"), prompt: "Hi", maxRetries: 0 });
const { embedding } = await embed({ model: server.embeddingModel("any"), value: "Hi", maxRetries: 0 });
console.log(JSON.stringify({
  whole: whole.text, streamed, generated: usage.outputTokens, completed: completed.text, vector: embedding.length,
}));
"""


def test_vercels_client_for_compatible_servers(address: str) -> None:
    answers = run_script(VERCEL_SCRIPT, VERCEL, ADDRESS=address)
    assert answers == {"whole": TEXT, "streamed": TEXT, "generated": 2, "completed": TEXT, "vector": 8}
