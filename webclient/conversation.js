// What has been said: questions, their answers, and how each answer ended; knows nothing of the DOM or the network.

export const State = Object.freeze({
  WAITING: "waiting", // asked, no text yet
  STREAMING: "streaming",
  DONE: "done",
  CUT: "cut", // ended by a length limit
  STOPPED: "stopped", // ended by the reader
  FAILED: "failed",
});

/** A question and its answer. An answer ends once: what arrives after the end is ignored. */
export class Exchange {
  answer = "";
  state = State.WAITING;
  error = null;

  constructor(question) {
    this.question = question;
  }

  get isOpen() {
    return this.state === State.WAITING || this.state === State.STREAMING;
  }

  append(piece) {
    if (!this.isOpen || piece === "") return;
    this.answer += piece;
    this.state = State.STREAMING;
  }

  finish({ isCut = false } = {}) {
    if (this.isOpen) this.state = isCut ? State.CUT : State.DONE;
  }

  stop() {
    if (this.isOpen) this.state = State.STOPPED;
  }

  fail(error) {
    if (!this.isOpen) return;
    this.state = State.FAILED;
    this.error = error;
  }

  /** Forget a failed answer, so that the same question can be asked again. */
  reopen() {
    this.answer = "";
    this.state = State.WAITING;
    this.error = null;
  }
}

export class Conversation {
  exchanges = [];

  /** The exchange whose answer is being written; an earlier, failed one when that was tried again. */
  get openExchange() {
    return this.exchanges.find((exchange) => exchange.isOpen) ?? null;
  }

  ask(question) {
    const exchange = new Exchange(question);
    this.exchanges.push(exchange);
    return exchange;
  }

  /**
   * The messages that ask for `exchange`'s answer.
   * Many chat templates refuse two user messages in a row, so earlier questions that got no text back, or whose answer
   * failed, are left out together with their answer.
   */
  messagesFor(exchange) {
    const messages = [];
    for (const earlier of this.exchanges.slice(0, this.exchanges.indexOf(exchange))) {
      if (earlier.answer === "" || earlier.state === State.FAILED) continue;
      messages.push({ role: "user", content: earlier.question }, { role: "assistant", content: earlier.answer });
    }
    return [...messages, { role: "user", content: exchange.question }];
  }
}
