// Exchanges as elements of the page. Model text becomes text nodes and nothing else.

import { splitBlocks } from "./blocks.js";
import { State } from "./conversation.js";
import { strings } from "./strings.js";

/** The element of one exchange, kept in step with it by `update`. */
export class ExchangeView {
  #exchange;
  #blocks = [];

  /** `onRemedy` is called when the reader presses the button beside a failed answer. */
  constructor(exchange, { onRemedy }) {
    this.#exchange = exchange;
    this.onRemedy = onRemedy;
    this.answer = element("div", { className: "answer", dir: "auto" });
    this.note = element("p", { className: "note soft", hidden: true });
    this.trouble = element("div", { className: "trouble", hidden: true });
    this.trouble.setAttribute("role", "alert");
    this.root = element(
      "article",
      { className: "exchange" },
      element("h3", { className: "for-screen-readers" }, strings.youSaid),
      element("div", { className: "question", dir: "auto" }, exchange.question),
      element("h3", { className: "for-screen-readers" }, strings.modelSaid),
      this.answer,
      this.note,
      this.trouble,
    );
  }

  /** `trouble` says what went wrong and what helps, `{words, remedy}`, or is null. */
  update(trouble) {
    const { answer, isOpen, state } = this.#exchange;
    this.root.dataset.state = state;
    this.answer.setAttribute("aria-busy", String(isOpen));
    this.#showBlocks(splitBlocks(answer, { isGrowing: isOpen }));
    const note = { [State.STOPPED]: strings.stopped, [State.CUT]: strings.cut }[state] ?? "";
    this.note.textContent = note;
    this.note.hidden = note === "";
    this.#showTrouble(trouble);
  }

  /** Only what changed is touched, so that a long answer costs no more per piece than a short one's layout. */
  #showBlocks(blocks) {
    blocks.forEach((block, index) => {
      const shown = this.#blocks[index];
      if (shown?.kind === block.kind) shown.show(block);
      else {
        this.#dropFrom(index);
        const view = block.kind === "code" ? new CodeView() : new ParagraphView();
        view.show(block);
        this.#blocks.push(view);
        this.answer.append(view.root);
      }
    });
    this.#dropFrom(blocks.length);
  }

  #dropFrom(index) {
    for (const block of this.#blocks.splice(index)) block.root.remove();
  }

  #showTrouble(trouble) {
    this.trouble.hidden = trouble === null;
    this.trouble.replaceChildren();
    if (trouble === null) return;
    const button = element("button", { type: "button", className: "quiet" }, trouble.remedy);
    button.addEventListener("click", () => this.onRemedy());
    this.trouble.append(element("p", {}, trouble.words), button);
  }
}

class ParagraphView {
  kind = "paragraph";
  #text = document.createTextNode("");
  root = element("p", {}, this.#text);

  show({ text }) {
    setData(this.#text, text);
  }
}

class CodeView {
  kind = "code";
  #text = document.createTextNode("");
  #language = document.createTextNode("");

  constructor() {
    const copy = element("button", { type: "button", className: "copy" }, strings.copy);
    const code = element("code", {}, this.#text);
    const box = element("pre", { tabIndex: 0, dir: "ltr" }, code);
    copy.addEventListener("click", async () => {
      if (!(await copyText(code))) return;
      copy.textContent = strings.copied;
      setTimeout(() => (copy.textContent = strings.copy), 2000);
    });
    const caption = element("figcaption", {}, element("span", {}, this.#language), copy);
    this.root = element("figure", { className: "code" }, caption, box);
  }

  show({ text, language }) {
    setData(this.#text, text);
    setData(this.#language, language || strings.code);
  }
}

/** Copy an element's text; true when it worked. */
async function copyText(source) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(source.textContent).then(
      () => true,
      () => false, // the reader said no
    );
  }
  // Over plain HTTP from another machine there is no clipboard API; selecting the text and the old command remain.
  getSelection().selectAllChildren(source);
  return document.execCommand("copy");
}

/** Growing text is appended to, which keeps the reader's selection in it. */
function setData(node, text) {
  if (text === node.data) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}

export function element(tag, properties, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}
