// Where one writes: the text, the files with it, send and stop.

import { $, isTouch, on } from "./dom.js";

export class Composer {
  #handlers;
  #canSend = false;
  #isAnswering = false;
  #attachments;

  /** `handlers`: onAsk(text, attachments), onStop(), onEditLast(). `attachments` holds the files to go along. */
  constructor(handlers, attachments) {
    this.#handlers = handlers;
    this.#attachments = attachments;
    attachments.onChange = () => this.#update();
    const question = $("question");
    on(question, "input", () => this.#changed());
    on(question, "keydown", (event) => this.#pressed(event));
    on(question, "paste", (event) => {
      if (attachments.addFrom(event.clipboardData)) event.preventDefault();
    });
    on("composer", "submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    on("composer", "click", (event) => {
      if (event.target === event.currentTarget) question.focus();
    });
    on("stop", "click", () => handlers.onStop());
    on("attach", "click", () => attachments.pick());
  }

  get text() {
    return $("question").value;
  }

  set text(text) {
    $("question").value = text;
    this.#changed();
  }

  setState({ canSend, isAnswering }) {
    this.#canSend = canSend;
    this.#isAnswering = isAnswering;
    this.#update();
  }

  focus() {
    // On a touch screen the focus would bring up the keyboard, over the answer.
    if (!isTouch()) $("question").focus({ preventScroll: true });
  }

  ask(text) {
    this.text = text;
    this.#ask();
  }

  #pressed(event) {
    if (event.isComposing) return; // Enter also confirms a word in Japanese, Chinese, Korean input
    if (event.key === "ArrowUp" && this.text === "" && !this.#isAnswering) {
      event.preventDefault();
      this.#handlers.onEditLast();
    }
    // On touch keyboards Enter is the only line break.
    if (event.key !== "Enter" || event.shiftKey || isTouch()) return;
    event.preventDefault();
    this.#ask();
  }

  #ask() {
    const text = this.text.trim();
    if (!this.#isSendable() || this.#isAnswering) return;
    const attachments = this.#attachments.take();
    this.text = "";
    this.#handlers.onAsk(text, attachments);
  }

  #isSendable() {
    return this.#canSend && this.#attachments.isReady && (this.text.trim() !== "" || !this.#attachments.isEmpty);
  }

  #changed() {
    const question = $("question");
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight}px`;
    this.#update();
  }

  #update() {
    $("send").hidden = this.#isAnswering;
    $("stop").hidden = !this.#isAnswering;
    $("send").disabled = !this.#isSendable();
  }
}
