// One message as an element of the page: a question as it was written, an answer as Markdown.

import { End } from "../conversation/chat.js";
import { numToShow, wholeCharacters } from "../conversation/pace.js";
import { strings } from "../language/words.js";
import { MarkdownView } from "../markdown/view.js";
import { attachmentChip, sourcesOf } from "./attachments.js";
import { copyButton, element, icon, iconButton, on, setText, textButton } from "./dom.js";

const FRAME_MS = 16;
const MAX_SHARE = 0.35; // of all time that may go into showing what grows

/**
 * What both kinds have: versions and buttons. `actions`: edit(message, text), regenerate(message), proceed(message),
 * remove(message), show(message).
 */
class MessageView {
  bar = element("div", { class: "bar" });
  #barKey = "";

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
  }

  /** The buttons are made anew only when they change, so that one keeps the focus while an answer grows elsewhere. */
  updateBar({ versions, isBusy }) {
    const index = versions.indexOf(this.message);
    const key = JSON.stringify([versions.length, index, isBusy, this.message.end, strings.language]);
    if (key === this.#barKey) return;
    this.#barKey = key;
    this.bar.replaceChildren(...(this.message.isOpen ? [] : this.buttons(isBusy)));
    if (versions.length > 1) this.bar.prepend(this.#versions(versions, index, isBusy));
  }

  #versions(versions, index, isBusy) {
    const go = (step) => this.actions.show(versions[index + step]);
    const label = strings.versions(index + 1, versions.length);
    return element(
      "span",
      { class: "versions", role: "group", "aria-label": label },
      iconButton("left", strings.previousVersion, () => go(-1), { disabled: isBusy || index === 0 }),
      element("span", { "aria-hidden": "true" }, `${index + 1}/${versions.length}`),
      iconButton("right", strings.nextVersion, () => go(1), { disabled: isBusy || index === versions.length - 1 }),
    );
  }

  copyButton() {
    return copyButton(strings, () => this.message.content);
  }

  removeButton(isBusy) {
    return iconButton("trash", strings.deleteMessage, () => this.actions.remove(this.message), { disabled: isBusy });
  }
}

export class QuestionView extends MessageView {
  #bubble = element("div", { class: "question", dir: "auto" });
  #files = element("div", { class: "files" });
  #editor = null;

  constructor(message, actions) {
    super(message, actions);
    this.#bubble.textContent = message.content;
    this.#bubble.hidden = message.content === "";
    this.#files.append(...message.attachments.filter(({ kind }) => kind !== "passage").map((each) => attachmentChip(each)));
    this.root = element(
      "article",
      { class: "message from-reader" },
      element("h3", { class: "for-screen-readers" }, strings.youSaid),
      this.#files,
      this.#bubble,
      this.bar,
    );
  }

  update(state) {
    this.updateBar(state);
  }

  buttons(isBusy) {
    return [iconButton("edit", strings.edit, () => this.edit(), { disabled: isBusy }), this.copyButton(), this.removeButton(isBusy)];
  }

  /** Let the question be written anew, in its place. */
  edit() {
    if (this.#editor) return;
    const area = element("textarea", { value: this.message.content, rows: 1, dir: "auto", "aria-label": strings.editQuestion });
    const finish = (isSent) => {
      this.#editor.replaceWith(this.#bubble);
      this.#editor = null;
      this.bar.hidden = false;
      const text = area.value.trim();
      if (isSent && text !== "") this.actions.edit(this.message, text);
      else this.bar.querySelector("button")?.focus();
    };
    on(area, "keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") finish(false);
      else if (event.key === "Enter" && !event.shiftKey) finish(true);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#editor = element(
      "div",
      { class: "editor" },
      area,
      element(
        "div",
        { class: "row to-end" },
        textButton(strings.cancel, () => finish(false)),
        textButton(strings.sendEdited, () => finish(true), { class: "strong" }),
      ),
    );
    this.#bubble.replaceWith(this.#editor);
    this.bar.hidden = true;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

export class AnswerView extends MessageView {
  #text = element("div", { class: "answer", dir: "auto" });
  #markdown = new MarkdownView(this.#text);
  #thoughts = null;
  #note = element("p", { class: "note", hidden: true });
  #trouble = element("div", { class: "trouble", role: "alert", hidden: true });
  #sources = element("div", { class: "sources" });
  #numShown = 0;
  #frame = null;
  #lastFrame = 0;
  #rest = 0; // until when nothing is shown, so that showing does not take all the time there is

  constructor(message, actions) {
    super(message, actions);
    this.#numShown = message.isOpen ? message.content.length : 0;
    this.root = element(
      "article",
      { class: "message from-model" },
      element("h3", { class: "for-screen-readers" }, strings.modelSaid),
      this.#text,
      this.#sources,
      this.#note,
      this.#trouble,
      this.bar,
    );
  }

  /** `question` is what was asked, `trouble` what went wrong and what helps, `{words, remedy, onRemedy}`, or null. */
  update({ question, trouble = null, ...state }) {
    const { message } = this;
    this.root.dataset.state = message.isOpen ? (message.content || message.reasoning ? "growing" : "waiting") : message.end;
    this.#text.setAttribute("aria-busy", String(message.isOpen));
    if (message.isOpen) this.growSoon();
    else {
      cancelAnimationFrame(this.#frame);
      this.#frame = null;
      this.#numShown = message.content.length;
      this.#show();
    }
    this.#sources.replaceChildren(...sourcesOf(question?.attachments ?? []));
    this.#showNote(trouble);
    this.#showTrouble(trouble);
    this.updateBar(state);
  }

  /** Show more with the next frame: pieces come faster than a screen can show them, and not as evenly. */
  growSoon() {
    this.#frame ??= requestAnimationFrame((now) => this.#grow(now));
  }

  buttons(isBusy) {
    const { end, stats } = this.message;
    const canProceed = (end === End.CUT || end === End.STOPPED || end === End.BROKEN) && this.message.content !== "";
    const statistics = strings.statistics(stats);
    return [
      canProceed && textButton(strings.continue, () => this.actions.proceed(this.message), { name: "go", disabled: isBusy }),
      this.copyButton(),
      iconButton("retry", strings.regenerate, () => this.actions.regenerate(this.message), { disabled: isBusy }),
      this.removeButton(isBusy),
      statistics && element("span", { class: "statistics", tabIndex: 0 }, statistics),
    ].filter(Boolean);
  }

  #grow(now) {
    this.#frame = null;
    if (!this.message.isOpen) return;
    const numWaiting = this.message.content.length - this.#numShown;
    if (now >= this.#rest) {
      const elapsed = Math.min(now - this.#lastFrame, 1000) || FRAME_MS;
      const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.#numShown += isCalm ? numWaiting : numToShow(numWaiting, elapsed);
      this.#numShown = wholeCharacters(this.message.content, this.#numShown);
      this.#lastFrame = now;
      const started = performance.now();
      this.#show();
      const took = performance.now() - started;
      this.#rest = now + took / MAX_SHARE - FRAME_MS / 2;
    }
    if (this.#numShown < this.message.content.length) this.growSoon();
  }

  #show() {
    const { content, isOpen } = this.message;
    if (content !== "" && this.root.dataset.state === "waiting") this.root.dataset.state = "growing";
    this.#markdown.show(content.slice(0, this.#numShown), { isGrowing: isOpen });
    this.#showThoughts();
  }

  #showThoughts() {
    const { reasoning, content, isOpen, stats } = this.message;
    if (reasoning === "") return;
    if (this.#thoughts === null) {
      const title = element("span");
      const text = document.createTextNode("");
      const box = element(
        "details",
        { class: "thoughts" },
        element("summary", {}, icon("spark"), title),
        element("div", { dir: "auto" }, text),
      );
      this.#thoughts = { title, text, box };
      this.#text.before(box);
    }
    const isThinking = isOpen && content === "";
    const words = isThinking ? strings.thinking : stats.thoughtSeconds >= 1 ? strings.thoughtFor(stats.thoughtSeconds) : strings.thoughts;
    if (this.#thoughts.title.textContent !== words) this.#thoughts.title.textContent = words;
    this.#thoughts.box.classList.toggle("is-thinking", isThinking);
    setText(this.#thoughts.text, reasoning);
  }

  #showNote(trouble) {
    const { end } = this.message;
    const words = { [End.STOPPED]: strings.stopped, [End.CUT]: strings.cut, [End.BROKEN]: strings.broken }[end] ?? "";
    this.#note.textContent = words;
    this.#note.hidden = words === "" || trouble !== null;
  }

  #showTrouble(trouble) {
    this.#trouble.hidden = trouble === null;
    this.#trouble.replaceChildren();
    if (trouble === null) return;
    this.#trouble.append(element("p", {}, trouble.words), textButton(trouble.remedy, trouble.onRemedy));
  }
}
