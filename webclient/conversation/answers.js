// Answers while they are written: one for each chat at most, and they go on while the reader looks at another chat.

import { ApiError, streamAnswer } from "../api/api.js";
import { End } from "./chat.js";

export class Answers {
  #saver;
  #handlers;
  #running = new Map(); // chat id → `{chat, message, controller, clock}`

  /** `handlers`: onGrow(chat, message) for every piece, onEnd(chat, message). */
  constructor(saver, handlers) {
    this.#saver = saver;
    this.#handlers = handlers;
  }

  isRunning(chatId) {
    return this.#running.has(chatId);
  }

  /** Write `message`, an answer in `chat`, as the reply to `body`. What it holds already stays, and is continued. */
  async run(chat, message, body) {
    const controller = new AbortController();
    const clock = new Clock(message.stats);
    const run = { chat, message, controller, clock };
    this.#running.set(chat.id, run);
    Object.assign(message, { end: null, error: null });
    try {
      const { isCut, timings } = await streamAnswer(body, {
        signal: controller.signal,
        onDelta: ({ content, reasoning }) => {
          if (!message.isOpen) return;
          clock.note({ isThinking: content === "" && message.content === "" });
          message.content += content;
          message.reasoning += reasoning;
          this.#saver.soon(chat, message);
          this.#handlers.onGrow(chat, message);
        },
      });
      this.#end(run, isCut ? End.CUT : End.DONE, timings);
    } catch (error) {
      if (controller.signal.aborted) return; // `stop` has ended it
      message.error = error;
      this.#end(run, End.BROKEN, null);
      if (!(error instanceof ApiError)) reportError(error); // ours: shown to the reader, and to the console
    }
  }

  stop(chatId) {
    const run = this.#running.get(chatId);
    if (!run) return;
    run.controller.abort();
    this.#end(run, End.STOPPED, null);
  }

  #end({ chat, message, clock }, end, timings) {
    this.#running.delete(chat.id);
    Object.assign(message, { end, stats: clock.stats(timings) });
    this.#saver.now(chat, message);
    this.#handlers.onEnd(chat, message);
  }
}

/** When the first piece came, how long the model thought, and how fast it wrote. */
class Clock {
  #start = performance.now();
  #first = null;
  #thoughtMs = 0;
  #numPieces = 0;
  #before;

  constructor(before) {
    this.#before = before;
  }

  note({ isThinking }) {
    const elapsed = performance.now() - this.#start;
    this.#first ??= elapsed;
    this.#numPieces++;
    if (isThinking) this.#thoughtMs = elapsed;
  }

  /** The server's own figures where it gives them; a piece is about a token where it doesn't. */
  stats(timings) {
    const seconds = (performance.now() - this.#start - (this.#first ?? 0)) / 1000;
    const stats = {
      tokens: (this.#before.tokens ?? 0) + (timings?.predicted_n ?? this.#numPieces),
      perSecond: timings?.predicted_per_second ?? (seconds > 0 ? this.#numPieces / seconds : 0),
      firstSeconds: this.#before.firstSeconds ?? (this.#first ?? 0) / 1000,
    };
    const thoughtSeconds = this.#before.thoughtSeconds ?? this.#thoughtMs / 1000;
    return thoughtSeconds > 0 ? { ...stats, thoughtSeconds } : stats;
  }
}
