// A chat and its messages, to and from the JSON in which they are kept; knows nothing of the DOM or the network.

import { Tree } from "./tree.js";

export const End = Object.freeze({
  DONE: "done",
  CUT: "cut", // met a length limit
  STOPPED: "stopped", // by the reader
  BROKEN: "broken", // the connection, the program or the page went away
});

const ENDS = new Set(Object.values(End));
const TITLE_LENGTH = 60;

/** An id that nobody else has; the characters are those that the server takes. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Message {
  id = newId();
  parent = null;
  role = "user";
  content = "";
  reasoning = "";
  created = Date.now();
  end = End.DONE; // null while an answer is being written
  stats = {};
  attachments = [];
  error = null; // why there is no more of it; not kept
  isKept = false; // the program has some version of it

  constructor(fields) {
    Object.assign(this, fields);
  }

  get isOpen() {
    return this.end === null;
  }

  static fromJson(json) {
    const { end, ...stats } = isObject(json.stats) ? json.stats : {};
    return new Message({
      id: String(json.id),
      parent: typeof json.parent === "string" ? json.parent : null,
      role: json.role === "assistant" ? "assistant" : "user",
      content: text(json.content),
      reasoning: text(json.reasoning),
      created: number(json.created),
      end: json.is_partial ? End.BROKEN : ENDS.has(end) ? end : End.DONE,
      stats,
      attachments: Array.isArray(json.attachments) ? json.attachments.filter(isAttachment) : [],
      isKept: true,
    });
  }

  toJson() {
    const { id, parent, role, content, reasoning, created, attachments } = this;
    const stats = { ...this.stats, end: this.end ?? undefined };
    return { id, parent, role, content, reasoning, created, stats, attachments, is_partial: this.isOpen };
  }
}

export class Chat {
  id = newId();
  title = "";
  isPinned = false;
  created = Date.now();
  updated = Date.now();
  settings = {};
  leaf = null;
  tree = new Tree();

  static fromJson(json) {
    const chat = new Chat();
    chat.id = String(json.id);
    chat.title = text(json.title);
    chat.isPinned = json.is_pinned === true;
    chat.created = number(json.created);
    chat.updated = number(json.updated);
    chat.settings = isObject(json.settings) ? json.settings : {};
    chat.tree = new Tree((Array.isArray(json.messages) ? json.messages : []).filter(isObject).map(Message.fromJson));
    chat.leaf = chat.tree.get(json.leaf) ? json.leaf : (chat.tree.all.at(-1)?.id ?? null);
    return chat;
  }

  toJson() {
    const { id, title, isPinned, created, updated, leaf, settings } = this;
    const messages = this.tree.all.map((message) => message.toJson());
    return { id, title, is_pinned: isPinned, created, updated, leaf, settings, messages };
  }

  /** What is shown: the messages of the chosen branch. */
  get path() {
    return this.tree.path(this.leaf);
  }

  get isEmpty() {
    return this.tree.all.length === 0;
  }

  /** Put a question below `parent`, null for a first one; it becomes the end of the branch that is shown. */
  ask(content, { parent = this.leaf, attachments = [] } = {}) {
    if (this.title === "") this.title = titleFor(content || attachments[0]?.name || "");
    return this.#add(new Message({ role: "user", parent, content, attachments }));
  }

  /** An answer, still empty, to a question. */
  answer(question) {
    return this.#add(new Message({ role: "assistant", parent: question.id, end: null }));
  }

  /** Show the branch that another version of a message begins. */
  show(message) {
    this.leaf = this.tree.newestLeaf(message.id);
  }

  /** Take out a message and what hangs below it; what is shown is then the branch beside it, or the one above. */
  remove(message) {
    const versions = this.tree.versions(message);
    const index = versions.indexOf(message);
    const neighbour = versions[index - 1] ?? versions[index + 1] ?? null;
    const wasShown = this.path.includes(message);
    const removed = this.tree.remove(message.id);
    if (wasShown) this.leaf = neighbour ? this.tree.newestLeaf(neighbour.id) : message.parent;
    return removed;
  }

  #add(message) {
    this.tree.add(message);
    this.leaf = message.id;
    this.updated = message.created;
    return message;
  }
}

/** The first line of a question, cut at a word. */
export function titleFor(question) {
  const line = question.trim().split("\n")[0].replace(/\s+/g, " ");
  const characters = [...line];
  if (characters.length <= TITLE_LENGTH) return line;
  const cut = characters.slice(0, TITLE_LENGTH).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > TITLE_LENGTH / 2 ? cut.slice(0, space) : cut}…`;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isAttachment(value) {
  return isObject(value) && typeof value.kind === "string" && typeof value.name === "string";
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function number(value) {
  return Number.isFinite(value) ? value : 0;
}
