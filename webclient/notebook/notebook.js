// The notebook: one text that its writer and the model write in turn.
//
// The text is in a textarea, which edits as every editor does. Under it lies a mirror with the same text and the same
// lines, whose tokens are elements: they carry the tint of how sure the model was, and tell which token is pointed at.

import { strings } from "../language/words.js";
import { ApiError, streamCompletion } from "../api/api.js";
import { requestFields } from "../settings/fields.js";
import { $, element, on } from "../ui/dom.js";
import { Follower } from "../ui/follow.js";
import { Tokens } from "./tokens.js";

const NUM_CHANCES = 5;

export class Notebook {
  #tokens = new Tokens();
  #controller = null;
  #before = null; // the text before the last generation
  #settings;
  #explain;
  #frame = null;
  #drawn = [];
  #canWrite = false;
  #follower;

  /** `settings()` returns the chat settings that hold; `explain(error)` says an error in words. */
  constructor(settings, explain) {
    this.#settings = settings;
    this.#explain = explain;
    const area = $("text");
    on(area, "input", () => {
      this.#tokens.edit(area.value);
      this.#draw();
    });
    on(area, "pointermove", ({ clientX, clientY }) => this.#point(clientX, clientY));
    on(area, "pointerleave", () => this.#showChances(null));
    on(document, "selectionchange", () => document.activeElement === area && this.#showChances(this.#tokens.at(area.selectionStart), area));
    on(area, "keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#generate();
    });
    on("generate", "click", () => this.#generate());
    on("stop-text", "click", () => this.stop());
    on("take-back", "click", () => this.#takeBack());
    on("other-ending", "click", () => {
      this.#takeBack();
      this.#generate();
    });
    on("clear-text", "click", () => this.#replace(""));
    on("show-chances", "change", () => $("page-of-text").classList.toggle("is-tinted", $("show-chances").checked));
    this.#follower = new Follower($("notebook-scroller"), $("page-of-text"), () => {});
    this.#update();
  }

  get isRunning() {
    return this.#controller !== null;
  }

  setCanWrite(canWrite) {
    this.#canWrite = canWrite;
    this.#update();
  }

  stop() {
    this.#controller?.abort();
  }

  async #generate() {
    if (this.isRunning || !this.#canWrite || this.#tokens.text === "") return;
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    this.#before = this.#tokens.text;
    $("text-trouble").hidden = true;
    this.#follower.resume();
    this.#update();
    const { max_tokens: _, response_format: __, ...sampling } = requestFields(this.#settings());
    const body = { ...sampling, prompt: this.#before, n_predict: Number($("how-much").value), n_probs: NUM_CHANCES };
    try {
      await streamCompletion(body, {
        signal,
        onDelta: ({ text, tokens }) => {
          this.#tokens.append(text, tokens);
          this.#drawSoon();
        },
      });
    } catch (error) {
      if (!signal.aborted) {
        $("text-trouble").textContent = this.#explain(error);
        $("text-trouble").hidden = false;
        if (!(error instanceof ApiError)) reportError(error);
      }
    }
    this.#controller = null;
    this.#draw();
    this.#update();
    $("announcer").textContent = this.#tokens.text.slice(this.#before?.length ?? 0);
  }

  #takeBack() {
    if (this.#before !== null) this.#replace(this.#before);
    this.#before = null;
    this.#update();
  }

  #replace(text) {
    this.#tokens.edit(text);
    this.#draw();
    $("text").focus();
  }

  #drawSoon() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const { text, all } = this.#tokens;
    const area = $("text");
    if (area.value !== text) area.value = text;
    // Tokens that were drawn stay; a text ends in a break so that an empty last line has a height.
    let same = 0;
    while (same < all.length && this.#drawn[same] === all[same]) same++;
    const mirror = $("mirror");
    if (same === 0 || same < this.#drawn.length) {
      mirror.replaceChildren();
      same = 0;
    } else mirror.lastChild?.remove();
    let at = same === 0 ? 0 : all[same - 1].end;
    const parts = [];
    for (const token of all.slice(same)) {
      if (token.start > at) parts.push(text.slice(at, token.start));
      parts.push(
        element("span", { class: `sure-${sureness(token.logprob)}`, "data-start": token.start }, text.slice(token.start, token.end)),
      );
      at = token.end;
    }
    mirror.append(...parts, `${text.slice(at)}\n`);
    this.#drawn = [...all];
    this.#update();
  }

  #point(x, y) {
    const span = document.elementsFromPoint(x, y).find((each) => each.dataset.start !== undefined);
    this.#showChances(span ? this.#tokens.at(Number(span.dataset.start)) : null, span);
  }

  #showChances(token, anchor) {
    const box = $("chances");
    box.hidden = token === null || token.top.length === 0;
    if (box.hidden) return;
    const rows = token.top.map(({ text, logprob }) =>
      element(
        "li",
        { class: text === token.text ? "is-chosen" : "" },
        element("code", {}, visible(text)),
        element("meter", { value: Math.exp(logprob), "aria-hidden": "true" }),
        element("span", {}, strings.chanceOf(Math.exp(logprob))),
      ),
    );
    $("chances-list").replaceChildren(...rows);
    const span = $("mirror").querySelector(`[data-start="${token.start}"]`) ?? anchor;
    const { left, bottom, top } = span.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = box;
    box.style.left = `${Math.max(8, Math.min(left, innerWidth - offsetWidth - 8))}px`;
    box.style.top = `${bottom + 6 + offsetHeight > innerHeight ? top - offsetHeight - 6 : bottom + 6}px`;
  }

  #update() {
    const isEmpty = this.#tokens.text === "";
    $("generate").hidden = this.isRunning;
    $("stop-text").hidden = !this.isRunning;
    $("generate").disabled = !this.#canWrite || isEmpty;
    $("take-back").disabled = $("other-ending").disabled = this.#before === null || this.isRunning;
    $("clear-text").disabled = isEmpty || this.isRunning;
    $("text").readOnly = this.isRunning;
  }
}

/** 0 for a token the model was sure of, up to 4 for one it hardly thought of. */
function sureness(logprob) {
  const chance = Math.exp(logprob);
  return [0.8, 0.5, 0.2, 0.05].filter((least) => chance < least).length;
}

function visible(text) {
  return text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·");
}
