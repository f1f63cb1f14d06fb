// Saves messages while they are written: not more often than once a second, in order, and again when it failed.
//
// The program takes a message only after the one it hangs below, and as a chat's leaf only a message it has. What it
// refuses all the same (another window deleted the chat, the chat has become too large) is not sent again and again:
// the whole chat is, once, and when that is refused too the chat is no longer kept, until a part of it is deleted.

const PAUSE_MS = 1000;
const RETRY_MS = 5000;

export class Saver {
  #chats;
  #handlers;
  #waiting = new Map(); // message id → `[chat, message]`
  #refused = new Set(); // ids of chats
  #timer = null;
  #isFailing = false;
  #running = Promise.resolve();

  /**
   * `handlers`: onTrouble(error) when saving begins to fail, it is tried again until it succeeds; onRecovery() when it
   * has; onRefusal(chat, error) when the program does not take the chat, which is in this page only from then on.
   */
  constructor(chats, handlers) {
    this.#chats = chats;
    this.#handlers = handlers;
  }

  isRefused(chat) {
    return this.#refused.has(chat.id);
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
    if (!this.isRefused(chat)) this.#waiting.set(message.id, [chat, message]);
  }

  forget(messages) {
    for (const { id } of messages) this.#waiting.delete(id);
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#running = this.#running.then(() => this.#saveAll());
    return this.#running;
  }

  /** Save a chat with all its messages, be it one that was refused before. */
  async saveWhole(chat) {
    const sent = new Map(this.#waiting);
    const messages = chat.tree.all;
    try {
      await this.#chats.write(chat.toJson());
    } catch (error) {
      if (!error.isFinal) throw error;
      this.#refused.add(chat.id);
      this.forget(messages);
      this.#handlers.onRefusal(chat, error);
      return;
    }
    this.#refused.delete(chat.id);
    for (const message of messages) {
      message.isKept = true;
      if (this.#waiting.get(message.id) === sent.get(message.id)) this.#waiting.delete(message.id);
    }
  }

  async #saveAll() {
    for (const [id, entry] of [...this.#waiting]) {
      const [chat, message] = entry;
      if (this.#waiting.get(id) !== entry) continue; // saved with its whole chat, or to be saved anew
      try {
        await this.#save(chat, message);
      } catch (error) {
        this.#timer ??= setTimeout(() => this.flush(), RETRY_MS);
        if (!this.#isFailing) this.#handlers.onTrouble(error);
        this.#isFailing = true;
        return; // the rest may hang below this one
      }
      if (this.#waiting.get(id) === entry) this.#waiting.delete(id);
    }
    if (this.#isFailing) this.#handlers.onRecovery();
    this.#isFailing = false;
  }

  async #save(chat, message) {
    try {
      await this.#chats.writeMessage(chat.id, message.toJson(), this.#fieldsWith(chat, message));
      message.isKept = true;
    } catch (error) {
      if (!error.isFinal) throw error;
      await this.saveWhole(chat);
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
