"""Clients for JavaScript that speak OpenAI's dialect, unchanged: OpenAI's own, and Vercel's AI SDK."""

from tests.clients.awkward import PIECES, TEXT
from tests.clients.node import run_script

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
