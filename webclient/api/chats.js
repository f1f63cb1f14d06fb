// Where chats are kept: by the program, or, when it keeps none, in this page's memory. Both speak the same.

import { requestJson } from "./api.js";

const address = (id) => `chats/${encodeURIComponent(id)}`;

/** Chats on disk, through the program. */
export class KeptChats {
  async list(words = "") {
    const { chats } = await requestJson("GET", words ? `chats?search=${encodeURIComponent(words)}` : "chats");
    return chats;
  }

  read(id) {
    return requestJson("GET", address(id));
  }

  write(chat) {
    return requestJson("PUT", address(chat.id), chat);
  }

  change(id, fields) {
    return requestJson("PATCH", address(id), fields);
  }

  writeMessage(id, message, fields) {
    return requestJson("PUT", `${address(id)}/messages/${encodeURIComponent(message.id)}`, { ...message, ...fields });
  }

  remove(id) {
    return requestJson("DELETE", address(id));
  }

  removeMessage(id, messageId) {
    return requestJson("DELETE", `${address(id)}/messages/${encodeURIComponent(messageId)}`);
  }

  exported() {
    return requestJson("GET", "chats/export");
  }

  async import(document) {
    return (await requestJson("POST", "chats/import", document)).imported;
  }
}

/** Chats that live as long as the page. Values are copied, as they would be on their way to the program. */
export class PassingChats {
  #chats = new Map();

  async list(words = "") {
    const wanted = words.toLowerCase();
    return [...this.#chats.values()]
      .filter(({ title, messages }) =>
        [title, ...messages.map(({ content }) => content)].some((text) => text.toLowerCase().includes(wanted)),
      )
      .sort((one, other) => other.is_pinned - one.is_pinned || other.updated - one.updated)
      .map(({ messages, ...chat }) => ({ ...chat, num_messages: messages.length }));
  }

  async read(id) {
    return structuredClone(this.#chats.get(id));
  }

  async write(chat) {
    this.#chats.set(chat.id, structuredClone(chat));
  }

  async change(id, fields) {
    Object.assign(this.#chats.get(id) ?? {}, structuredClone(fields));
  }

  async writeMessage(id, message, fields) {
    const now = Date.now();
    const chat = this.#chats.get(id) ?? { id, title: "", is_pinned: false, created: now, settings: {}, messages: [] };
    const messages = chat.messages.filter((other) => other.id !== message.id);
    this.#chats.set(id, { ...chat, ...fields, updated: now, messages: [...messages, structuredClone(message)] });
  }

  async remove(id) {
    this.#chats.delete(id);
  }

  async removeMessage(id, messageId) {
    const chat = this.#chats.get(id);
    const gone = new Set([messageId]);
    for (const { id: own, parent } of chat?.messages ?? []) if (gone.has(parent)) gone.add(own);
    if (chat) chat.messages = chat.messages.filter((message) => !gone.has(message.id));
  }

  async exported() {
    return { format: "holdall.chats", version: 1, chats: [...this.#chats.values()] };
  }

  async import({ format, chats }) {
    if (format !== "holdall.chats" || !Array.isArray(chats)) throw new Error("format");
    for (const chat of chats) await this.write(chat);
    return chats.length;
  }
}
