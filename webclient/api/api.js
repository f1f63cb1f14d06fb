// The page's side of the HTTP API: requests, and replies turned into values and typed errors. Knows no DOM, no words.

import { keyHeaders, noteRefusal } from "./key.js";
import { EventParser } from "./sse.js";

const HEALTH_TIMEOUT_MS = 10_000;

export const Fault = Object.freeze({
  UNREACHABLE: "unreachable", // no reply, or the connection died
  BROKEN: "broken", // the stream ended without saying how the answer ended
  CONTEXT_FULL: "context-full",
  LOCKED: "locked", // the program wants a key
  REFUSED: "refused", // the API said no, and why
});

export class ApiError extends Error {
  constructor(fault, { message = "", status = null, numPromptTokens = null, contextSize = null } = {}) {
    super(message);
    this.fault = fault;
    this.status = status;
    this.numPromptTokens = numPromptTokens;
    this.contextSize = contextSize;
  }

  /** The request itself is wrong: sending it again would change nothing. */
  get isFinal() {
    return this.fault === Fault.REFUSED && this.status >= 400 && this.status < 500;
  }
}

/** How the server is: `{status: "ready"}`, `{status: "loading", progress}` or `{status: "failed", message}`. */
export async function readHealth() {
  const response = await request("health", { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
  if (response.ok) return { status: "ready" };
  const body = await readJson(response);
  if (response.status === 503 && typeof body?.progress === "number") {
    return { status: "loading", progress: Math.min(Math.max(body.progress, 0), 1) };
  }
  return { status: "failed", message: body?.error?.message ?? "" };
}

/** What the page shows of its bundle; `page.json` as the server writes it. */
export function readFace() {
  return requestJson("GET", "page.json", undefined, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
}

/**
 * Ask for the next message; hand `{content, reasoning}` to `onDelta` as they come and return `{isCut, timings}` at the
 * end. Aborting `signal` closes the connection, on which the server drops the request, and throws the signal's reason.
 */
export async function streamAnswer(body, { signal, onDelta }) {
  const response = await postStream("v1/chat/completions", body, signal);
  let finishReason = null;
  let timings = null;
  for await (const event of events(response, signal)) {
    if (event.data === "[DONE]") continue; // the server closes; cancelling here would look like an abort
    const chunk = JSON.parse(event.data);
    if (chunk.error) throw refusal(chunk.error, null);
    timings = chunk.timings ?? timings;
    const choice = chunk.choices?.[0];
    const { content, reasoning_content: reasoning } = choice?.delta ?? {};
    if (content || reasoning) onDelta({ content: content ?? "", reasoning: reasoning ?? "" });
    finishReason = choice?.finish_reason ?? finishReason;
  }
  if (finishReason === null) throw new ApiError(Fault.BROKEN);
  return { isCut: finishReason === "length", timings };
}

/** Go on with a text; hand `{text, tokens}` to `onDelta`, each token `{text, logprob, top: [{text, logprob}]}`. */
export async function streamCompletion(body, { signal, onDelta }) {
  const response = await postStream("completion", body, signal);
  let isWhole = false;
  for await (const event of events(response, signal)) {
    const chunk = JSON.parse(event.data);
    if (chunk.error) throw refusal(chunk.error, null);
    const tokens = (chunk.completion_probabilities ?? []).map(tokenOf);
    if (chunk.content || tokens.length > 0) onDelta({ text: chunk.content ?? "", tokens: chunk.stop ? [] : tokens });
    isWhole ||= chunk.stop === true;
  }
  if (!isWhole) throw new ApiError(Fault.BROKEN);
}

function tokenOf({ token, logprob, top_logprobs: top = [] }) {
  return { text: token, logprob, top: top.map((other) => ({ text: other.token, logprob: other.logprob })) };
}

export async function countTokens(text, signal) {
  return (await postJson("tokenize", { content: text }, { signal })).tokens.length;
}

/** A vector for each text. */
export async function embed(texts, signal) {
  const { data } = await postJson("v1/embeddings", { input: texts, encoding_format: "float" }, { signal });
  return data.sort((one, other) => one.index - other.index).map(({ embedding }) => Float32Array.from(embedding));
}

/** End the program. The header is one that another site's page cannot send. */
export function quit() {
  return requestJson("POST", "quit");
}

/** A request of the page's own endpoints; the reply's JSON, or an ApiError. */
export async function requestJson(method, url, body, { signal } = {}) {
  const headers = { "x-holdall": "page", ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  const response = await request(url, { method, headers, signal, body: body && toJson(body) });
  const json = await readJson(response);
  if (!response.ok) throw refusal(json?.error, response.status);
  return json;
}

/** Half of a surrogate pair, which a cut text may end in, is nothing that UTF-8 can carry. */
function toJson(body) {
  return JSON.stringify(body, (_, value) => (typeof value === "string" ? (value.toWellFormed?.() ?? value) : value));
}

function postJson(url, body, options) {
  return requestJson("POST", url, body, options);
}

async function postStream(url, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const whole = toJson({ ...body, stream: true });
  const response = await request(url, { method: "POST", headers, body: whole, signal });
  if (!response.ok) throw refusal((await readJson(response))?.error, response.status);
  return response;
}

async function* events(response, signal) {
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    while (true) {
      const { done, value } = await reader.read().catch((error) => {
        throw connectionError(error, signal);
      });
      if (done) return;
      yield* parser.feed(value);
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be dead already, which is what was wanted
  }
}

async function request(url, { headers, ...options }) {
  const response = await fetch(url, { cache: "no-store", headers: { ...headers, ...keyHeaders() }, ...options }).catch((error) => {
    throw connectionError(error, options.signal);
  });
  if (response.status !== 401) return response;
  noteRefusal();
  throw new ApiError(Fault.LOCKED, { status: 401 });
}

/** What a failed read means: the reader's own abort stays one; a timeout or a dead connection is the server's. */
function connectionError(error, signal) {
  const isAbort = signal?.aborted && signal.reason?.name !== "TimeoutError";
  return isAbort ? signal.reason : new ApiError(Fault.UNREACHABLE, { message: error.message });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null; // a reply that is no JSON tells nothing more than its status
  }
}

function refusal(error, status) {
  if (typeof error === "string") return new ApiError(Fault.REFUSED, { message: error, status });
  if (error?.type === "exceed_context_size_error") {
    const { n_prompt_tokens: numPromptTokens = null, n_ctx: contextSize = null } = error;
    return new ApiError(Fault.CONTEXT_FULL, { message: error.message, status, numPromptTokens, contextSize });
  }
  return new ApiError(Fault.REFUSED, { message: error?.message ?? "", status });
}
