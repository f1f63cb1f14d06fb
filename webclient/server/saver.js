// Saves messages while they are written: not more often than once a second, in order, and again when it failed.

const PAUSE_MS = 1000;

export class Saver {
  #chats;
  #onTrouble;
  #waiting = new Map(); // message id → `[chat, message]`
  #timer = null;
  #running = Promise.resolve();

  /** `onTrouble` is called when something could not be saved; it is kept, and `flush` tries again. */
  constructor(chats, onTrouble) {
    this.#chats = chats;
    this.#onTrouble = onTrouble;
  }

  /** Save a message within a second. */
  soon(chat, message) {
    this.#note(chat, message);
    this.#timer ??= setTimeout(() => this.flush(), PAUSE_MS);
  }

  /** Save a message at once; resolves when everything that waited is saved or has failed. */
  now(chat, message) {
    this.#note(chat, message);
    return this.flush();
  }

  /** A new entry for every change, in the place of the first: what hangs below something is saved after it. */
  #note(chat, message) {
    this.#waiting.set(message.id, [chat, message]);
  }

  forget(messages) {
    for (const { id } of messages) this.#waiting.delete(id);
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    return (this.#running = this.#running.then(() => this.#saveAll()));
  }

  async #saveAll() {
    for (const [id, entry] of [...this.#waiting]) {
      const [chat, message] = entry;
      try {
        await this.#chats.writeMessage(chat.id, message.toJson(), this.#fieldsWith(chat, message));
      } catch (error) {
        this.#onTrouble(error);
        return; // the rest may hang below this one
      }
      message.isKept = true;
      if (this.#waiting.get(id) === entry) this.#waiting.delete(id);
    }
  }

  /** The title, and the end of the branch that is shown, as far as it is kept by then. */
  #fieldsWith({ title, path }, message) {
    const index = path.indexOf(message);
    if (index < 0) return { title };
    const kept = path.slice(index + 1).filter(({ isKept }) => isKept);
    return { title, leaf: (kept.at(-1) ?? message).id };
  }
}
