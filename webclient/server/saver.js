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
    this.#waiting.set(message.id, [chat, message]);
    this.#timer ??= setTimeout(() => this.flush(), PAUSE_MS);
  }

  /** Save a message at once; resolves when everything that waited is saved or has failed. */
  now(chat, message) {
    this.#waiting.set(message.id, [chat, message]);
    return this.flush();
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
    for (const [id, [chat, message]] of [...this.#waiting]) {
      this.#waiting.delete(id);
      const { leaf, title } = chat;
      try {
        await this.#chats.writeMessage(chat.id, message.toJson(), { leaf, title });
      } catch (error) {
        if (!this.#waiting.has(id)) this.#waiting.set(id, [chat, message]);
        this.#onTrouble(error);
        return;
      }
    }
  }
}
