// The files that go with a question: dropped, pasted or picked, read, counted, and shown as chips.

import { newId } from "../conversation/chat.js";
import { FileTrouble, readAttachment } from "../documents/read.js";
import { strings } from "../language/words.js";
import { countTokens } from "../api/api.js";
import { $, element, icon, iconButton, pickFiles } from "./dom.js";
import { toast } from "./toast.js";

const SHARE_OF_CONTEXT = 0.5; // of the context that files may fill whole; the rest is for the talk about them
const LONG_PASTE = 4000; // characters: more is a document rather than a message
const LIMIT_BYTES = 3_000_000;

export class Attachments {
  onChange = () => {};
  #items = []; // `{attachment, chip, isReady}`
  #library;
  #facts;

  /** `facts()` returns `{contextSize, canSee}`, which are known only when the model is loaded. */
  constructor(library, facts) {
    this.#library = library;
    this.#facts = facts;
    this.#listenToDrops();
  }

  get isEmpty() {
    return this.#items.length === 0;
  }

  get isReady() {
    return this.#items.every(({ isReady }) => isReady);
  }

  /** Hand the files over; none are left. */
  take() {
    const taken = this.#items.map(({ attachment }) => attachment);
    this.#items = [];
    this.#draw();
    return taken;
  }

  async pick() {
    this.add(await pickFiles({ isMultiple: true }));
  }

  /** Take files or a long text from the clipboard; true when there was something to take. */
  addFrom(clipboard) {
    const files = [...clipboard.files];
    const text = clipboard.getData("text/plain");
    if (files.length === 0 && text.length > LONG_PASTE) files.push(new File([text], `${strings.pastedText}.txt`));
    this.add(files);
    return files.length > 0;
  }

  add(files) {
    for (const file of files) this.#add(file);
  }

  async #add(file) {
    const item = { attachment: { kind: "text", name: file.name }, isReady: false, words: strings.reading };
    this.#items.push(item);
    this.#draw();
    try {
      item.attachment = { id: newId(), ...(await readAttachment(file, this.#facts())) };
      if (item.attachment.kind === "text") await this.#weigh(item);
    } catch (error) {
      this.#remove(item);
      if (!(error instanceof FileTrouble)) throw error;
      toast(strings[error.reason](error.fileName, strings.size(LIMIT_BYTES)));
      return;
    }
    item.isReady = true;
    this.#draw();
  }

  /** Count its tokens, and make it ready to be looked up when it does not fit whole. */
  async #weigh(item) {
    const { attachment } = item;
    attachment.tokens = await countTokens(attachment.text).catch(() => Math.ceil(attachment.text.length / 4));
    const { contextSize } = this.#facts();
    if (!contextSize) return;
    const room = Math.floor(contextSize * SHARE_OF_CONTEXT) - this.#numTokens(item);
    if (attachment.tokens <= room) return;
    attachment.kind = "document";
    item.hint = strings.searchesDocument(Math.max(room, 0));
    const { vectors } = await this.#library.prepare(attachment, (done, total) => {
      item.words = strings.preparing(done, total);
      this.#draw();
    });
    if (vectors === null) item.hint = `${item.hint} ${strings.wordsOnly}`;
  }

  #numTokens(but) {
    return this.#items.reduce(
      (sum, item) => sum + (item !== but && item.attachment.kind === "text" ? (item.attachment.tokens ?? 0) : 0),
      0,
    );
  }

  #remove(item) {
    this.#items = this.#items.filter((other) => other !== item);
    this.#draw();
    $("question").focus({ preventScroll: true });
  }

  #draw() {
    const chips = this.#items.map((item) => {
      const remove = iconButton("close", strings.remove(item.attachment.name), () => this.#remove(item));
      return attachmentChip(item.attachment, { words: item.isReady ? null : item.words, hint: item.hint, remove });
    });
    $("attachments").replaceChildren(...chips);
    $("attachments").hidden = chips.length === 0;
    this.onChange();
  }

  #listenToDrops() {
    let depth = 0; // elements are left and entered one by one
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !$("chat-view").hidden;
    const show = (change) => {
      depth = Math.max(0, depth + change);
      $("drop").hidden = depth === 0;
    };
    addEventListener("dragenter", (event) => hasFiles(event) && show(1));
    addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      show(-depth);
      this.add(event.dataTransfer.files);
    });
  }
}

/** A file as a small card. */
export function attachmentChip({ kind, name, tokens, data }, { words = null, hint = null, remove = null } = {}) {
  const picture = kind === "image" && /^data:image\//.test(data ?? "") ? element("img", { src: data, alt: "" }) : icon("file");
  const detail = words ?? (tokens === undefined ? "" : strings.tokens(tokens));
  const facts = element("span", { class: "soft" }, detail);
  return element(
    "div",
    { class: "chip" },
    picture,
    element(
      "span",
      { class: "chip-text" },
      element("span", { class: "chip-name", dir: "auto" }, name),
      facts,
      hint && element("span", { class: "soft" }, hint),
    ),
    remove,
  );
}

/** Which parts of documents an answer was given to go by, folded. A long one scrolls, and is reached by Tab for that. */
export function sourcesOf(attachments) {
  const passages = attachments.filter(({ kind }) => kind === "passage");
  if (passages.length === 0) return [];
  const quotes = passages.map(({ name, part, total, text }) =>
    element("blockquote", {}, element("cite", {}, strings.part(name, part, total)), element("p", { dir: "auto", tabIndex: 0 }, text)),
  );
  return [element("details", { class: "passages" }, element("summary", {}, icon("book"), strings.sources(passages.length)), ...quotes)];
}
