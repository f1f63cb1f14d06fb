// The page's elements and what they show; decides nothing. The reader's wishes go out through the handlers.

import { Follower } from "./follow.js";
import { strings } from "./strings.js";
import { ExchangeView } from "./transcript.js";

const HERE = new Set(["localhost", "127.0.0.1", "[::1]"]);

export class View {
  #handlers;
  #follower;
  #exchangeViews = new Map();
  #waitingForFrame = new Map();
  #canSend = false;
  #isAnswering = false;

  /** `handlers`: onAsk(question), onStop(), onNewChat(), onRemedy(exchange). */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#fillInWords();
    this.#follower = new Follower($("transcript"), $("column"), (isFollowing) => ($("to-end").hidden = isFollowing));
    this.#listen();
  }

  showModelName(name) {
    document.title = name || "holdall";
    $("model-name").textContent = name;
    const host = location.hostname;
    const model = name || strings.someModel;
    $("welcome-line").textContent = HERE.has(host) ? strings.welcomeHere(model) : strings.welcomeThere(model, host);
  }

  /** Show a line above the composer: `{title, hint, tone, progress}`; `progress` null means none. */
  showNotice({ title, hint = "", tone = "calm", progress = null }) {
    const notice = $("notice");
    notice.dataset.tone = tone;
    // Read out when it comes, not with every percent.
    if (notice.hidden || $("notice-title").textContent !== title) this.announce(title);
    $("notice-title").textContent = title;
    $("notice-hint").textContent = hint;
    $("notice-percent").textContent = progress === null ? "" : strings.percent(progress);
    $("progress").hidden = progress === null;
    if (progress !== null) $("progress").value = progress;
    notice.hidden = false;
  }

  hideNotice() {
    $("notice").hidden = true;
  }

  setCanSend(canSend) {
    this.#canSend = canSend;
    this.#updateButtons();
  }

  setAnswering(isAnswering) {
    this.#isAnswering = isAnswering;
    this.#updateButtons();
  }

  announce(text) {
    $("announcer").textContent = text;
  }

  addExchange(exchange) {
    const exchangeView = new ExchangeView(exchange, { onRemedy: () => this.#handlers.onRemedy(exchange) });
    this.#exchangeViews.set(exchange, exchangeView);
    $("exchanges").append(exchangeView.root);
    exchangeView.update(null);
    $("welcome").hidden = true;
    $("new-chat").disabled = false;
    this.#follower.resume();
  }

  /** Bring an exchange's element up to date, at once. */
  updateExchange(exchange, trouble = null) {
    cancelAnimationFrame(this.#waitingForFrame.get(exchange));
    this.#waitingForFrame.delete(exchange);
    this.#exchangeViews.get(exchange)?.update(trouble);
  }

  /** The same with the next frame; pieces come faster than a screen can show them. */
  updateExchangeSoon(exchange) {
    if (this.#waitingForFrame.has(exchange)) return;
    this.#waitingForFrame.set(exchange, requestAnimationFrame(() => this.updateExchange(exchange)));
  }

  clear() {
    $("exchanges").replaceChildren();
    this.#exchangeViews.clear();
    $("welcome").hidden = false;
    $("new-chat").disabled = true;
    this.announce("");
    this.#follower.resume();
  }

  focusQuestion() {
    // On a touch screen the focus would bring up the keyboard, over the answer.
    if (!isTouch()) $("question").focus({ preventScroll: true });
  }

  #fillInWords() {
    document.documentElement.lang = strings.language;
    for (const node of document.querySelectorAll("[data-text]")) node.textContent = strings[node.dataset.text];
    for (const node of document.querySelectorAll("[data-placeholder]")) {
      node.placeholder = strings[node.dataset.placeholder];
    }
    for (const node of document.querySelectorAll("[data-label]")) {
      node.setAttribute("aria-label", strings[node.dataset.label]);
      if (node instanceof HTMLButtonElement) node.title = strings[node.dataset.label];
    }
  }

  #listen() {
    const question = $("question");
    question.addEventListener("input", () => this.#questionChanged());
    question.addEventListener("keydown", (event) => {
      // Enter also confirms a word in Japanese, Chinese, Korean input; on touch keyboards it is the only line break.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouch()) return;
      event.preventDefault();
      this.#ask();
    });
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    $("composer").addEventListener("click", (event) => {
      if (event.target === event.currentTarget) question.focus();
    });
    $("stop").addEventListener("click", () => this.#handlers.onStop());
    $("new-chat").addEventListener("click", () => this.#handlers.onNewChat());
    $("to-end").addEventListener("click", () => this.#follower.resume());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && this.#isAnswering) this.#handlers.onStop();
    });
  }

  #ask() {
    const question = $("question").value.trim();
    if (question === "" || !this.#canSend || this.#isAnswering) return;
    $("question").value = "";
    this.#questionChanged();
    this.#handlers.onAsk(question);
  }

  #questionChanged() {
    const question = $("question");
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight}px`;
    this.#updateButtons();
  }

  #updateButtons() {
    $("send").hidden = this.#isAnswering;
    $("stop").hidden = !this.#isAnswering;
    $("send").disabled = !this.#canSend || $("question").value.trim() === "";
  }
}

function $(id) {
  return document.getElementById(id);
}

function isTouch() {
  return matchMedia("(hover: none) and (pointer: coarse)").matches;
}
