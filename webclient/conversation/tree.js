// Messages as a tree: an edited question and an answer that was asked for again are branches beside the first. Pure.
//
// A chat may come from a file that somebody else made: a parent that is not there makes a first message, and a ring of
// parents must not catch us, so every walk remembers where it has been.

export class Tree {
  #messages = new Map(); // by id, oldest first

  constructor(messages = []) {
    for (const message of messages) this.add(message);
  }

  get all() {
    return [...this.#messages.values()];
  }

  get(id) {
    return this.#messages.get(id) ?? null;
  }

  add(message) {
    this.#messages.set(message.id, message);
  }

  /** The messages from the first one down to `leaf`. */
  path(leaf) {
    const path = [];
    const seen = new Set();
    for (let message = this.get(leaf); message && !seen.has(message.id); message = this.get(message.parent)) {
      seen.add(message.id);
      path.unshift(message);
    }
    return path;
  }

  /** The versions of a message, itself among them, oldest first. */
  versions(message) {
    const parent = this.#parentOf(message);
    return this.all.filter((other) => other.role === message.role && this.#parentOf(other) === parent);
  }

  children(id) {
    return this.all.filter((message) => this.#parentOf(message) === id);
  }

  /** The end of the newest branch that runs through a message. */
  newestLeaf(id) {
    const seen = new Set();
    for (let child = id; child !== undefined && !seen.has(child); child = this.children(child).at(-1)?.id) {
      seen.add(child);
      id = child;
    }
    return id;
  }

  /** Take a message out with all that hangs below it; return what was taken, the message first. */
  remove(id) {
    const removed = [];
    const waiting = [id];
    while (waiting.length > 0) {
      const message = this.get(waiting.shift());
      if (message === null) continue;
      waiting.push(...this.children(message.id).map((child) => child.id));
      this.#messages.delete(message.id);
      removed.push(message);
    }
    return removed;
  }

  #parentOf(message) {
    return message.parent !== message.id && this.#messages.has(message.parent) ? message.parent : null;
  }
}
