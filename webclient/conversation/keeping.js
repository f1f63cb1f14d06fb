// Keeping: the chats that this page holds, and those that the program keeps for it. Knows nothing of the DOM.
//
// A chat is held while its answer is being written, and for as long as the program doesn't take it: then what the page
// has of it is all there is.

import { Chat } from "./chat.js";

export class Keeping {
  #chats;
  #saver;
  #isRunning;
  #held = new Map(); // by id

  /** `isRunning(id)` says whether a chat's answer is being written. */
  constructor(chats, saver, isRunning) {
    this.#chats = chats;
    this.#saver = saver;
    this.#isRunning = isRunning;
  }

  get heldIds() {
    return [...this.#held.keys()];
  }

  /** A chat as it is held, or else as it is kept; null when it is neither or the program can't be asked. */
  async read(id) {
    if (this.#held.has(id)) return this.#held.get(id);
    const json = await this.#chats.read(id).catch(() => null);
    return json ? Chat.fromJson(json) : null;
  }

  hold(chat) {
    this.#held.set(chat.id, chat);
  }

  /** Leave a chat to the program, unless it is still needed here. */
  release(chat) {
    if (!this.#saver.isRefused(chat) && !this.#isRunning(chat.id)) this.#held.delete(chat.id);
  }

  /** Save a chat with all its messages; what was refused may be taken now. */
  async saveWhole(chat) {
    await this.#saver.saveWhole(chat);
    this.release(chat);
  }

  saveSettings(chat) {
    if (!this.#saver.isRefused(chat)) this.#chats.change(chat.id, { settings: chat.settings }).catch(() => {});
  }

  saveLeaf(chat) {
    return this.#chats.change(chat.id, { leaf: chat.leaf });
  }

  /**
   * Take out a message and what hangs below it, here at once. Return `{saved, undo}`: a promise of the program's having
   * done the same, and a function that puts everything back and returns such a promise.
   */
  remove(chat, message) {
    const { leaf } = chat;
    const removed = chat.remove(message);
    this.#saver.forget(removed);
    const undo = () => {
      for (const each of removed) chat.tree.add(each);
      chat.leaf = leaf;
      return this.saveWhole(chat);
    };
    return { saved: this.#saver.isRefused(chat) ? this.saveWhole(chat) : this.#removeKept(chat, message), undo };
  }

  async #removeKept(chat, message) {
    await this.#chats.removeMessage(chat.id, message.id);
    await this.saveLeaf(chat);
  }
}
