// The page's side of the HTTP API: requests, and replies turned into values and typed errors. Knows no DOM, no words.

import { EventParser } from "./sse.js";

const HEALTH_TIMEOUT_MS = 10_000;

export const Fault = Object.freeze({
  UNREACHABLE: "unreachable", // no reply, or the connection died
  BROKEN: "broken", // the stream ended without saying how the answer ended
  CONTEXT_FULL: "context-full",
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

/** The model's name as the server calls it, or "" when it does not say. */
export async function readModelName() {
  const response = await request("props", { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
  const props = response.ok ? await readJson(response) : null;
  return typeof props?.model_alias === "string" ? props.model_alias : "";
}

/**
 * Ask for the next message, hand the answer's text to `onPiece` as it comes, and return `{isCut}` at its end.
 * Aborting `signal` closes the connection, on which the server drops the request, and throws the signal's reason.
 */
export async function streamAnswer(messages, { signal, onPiece }) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages, stream: true }),
    signal,
  });
  if (!response.ok) throw refusal((await readJson(response))?.error, response.status);

  let finishReason = null;
  for await (const event of events(response, signal)) {
    if (event.data === "[DONE]") continue; // the server closes; cancelling here would look like an abort
    const chunk = JSON.parse(event.data);
    if (chunk.error) throw refusal(chunk.error, null);
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) onPiece(choice.delta.content);
    finishReason = choice?.finish_reason ?? finishReason;
  }
  if (finishReason === null) throw new ApiError(Fault.BROKEN);
  return { isCut: finishReason === "length" };
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

async function request(url, options) {
  try {
    return await fetch(url, { cache: "no-store", ...options });
  } catch (error) {
    throw connectionError(error, options.signal);
  }
}

/** What a failed read means: the reader's own abort stays one; a timeout or a dead connection is the server's. */
function connectionError(error, signal) {
  const isAbort = signal.aborted && signal.reason?.name !== "TimeoutError";
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
  if (error?.type === "exceed_context_size_error") {
    const { n_prompt_tokens: numPromptTokens = null, n_ctx: contextSize = null } = error;
    return new ApiError(Fault.CONTEXT_FULL, { message: error.message, status, numPromptTokens, contextSize });
  }
  return new ApiError(Fault.REFUSED, { message: error?.message ?? "", status });
}
