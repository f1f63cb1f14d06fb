// Asking: from a question and its files to an answer that is being written. Knows nothing of the DOM.

import { requestFields } from "../settings/fields.js";
import { Answers } from "./answers.js";
import { messagesFor } from "./prompt.js";

const PASSAGE_TOKENS = 300; // about; what fits into a part of the context is put into the prompt
const SHARE_OF_CONTEXT = 0.3;
const MAX_PASSAGES = 8;
const USUAL_CONTEXT = 4096; // until the model is loaded and says its own

export class Asking {
  #chats;
  #saver;
  #library;
  #face;
  #handlers;
  #answers;
  #isPreparing = false;

  /**
   * `face()` returns the bundle's face as it is known by now. `handlers`: onPrepare() when documents begin to be looked
   * up; onBegin(chat, {isNew}) when an answer begins, `isNew` being a chat's first; onGrow and onEnd as for Answers.
   */
  constructor({ chats, saver, library, face }, handlers) {
    this.#chats = chats;
    this.#saver = saver;
    this.#library = library;
    this.#face = face;
    this.#handlers = handlers;
    this.#answers = new Answers(saver, handlers);
  }

  /** Nothing can be asked in this chat now. */
  isBusy(chat) {
    return this.#isPreparing || this.isRunning(chat.id);
  }

  isRunning(chatId) {
    return this.#answers.isRunning(chatId);
  }

  stop(chatId) {
    this.#answers.stop(chatId);
  }

  /** Ask at the end of what is shown; resolves when the answer has ended. */
  async ask(chat, text, attachments) {
    if (this.isBusy(chat)) return;
    await this.#put(chat, text, { attachments, documents: documentsOf([...chat.path, { attachments }]) });
  }

  /** Ask a question in other words, beside the first version. */
  async edit(chat, message, text) {
    if (this.isBusy(chat)) return;
    const attachments = message.attachments.filter(({ kind }) => kind !== "passage");
    const documents = documentsOf(chat.tree.path(message.id));
    await this.#put(chat, text, { parent: message.parent, attachments, documents });
  }

  /** Let a question be answered again, beside the answers that it has. */
  async answer(chat, question, isNew = false) {
    if (this.isRunning(chat.id)) return;
    const body = this.#body(chat, question);
    const answer = chat.answer(question);
    this.#saver.soon(chat, question);
    await this.#run(chat, answer, body, isNew);
  }

  /** Let an answer go on where it ended. */
  async proceed(chat, answer) {
    if (this.isRunning(chat.id)) return;
    await this.#run(chat, answer, { ...this.#body(chat, answer), add_generation_prompt: false, continue_final_message: true });
  }

  /** Ask again after an answer that failed; of one that never began nothing stays. */
  async retry(chat, answer) {
    const question = chat.tree.get(answer.parent);
    if (answer.content === "") {
      this.#saver.forget(chat.remove(answer));
      this.#chats.removeMessage(chat.id, answer.id).catch(() => {});
      chat.show(question);
    }
    await this.answer(chat, question);
  }

  async #put(chat, text, { parent, attachments, documents }) {
    const passages = await this.#passages(text, documents);
    const question = chat.ask(text, { parent, attachments: [...attachments, ...passages] });
    await this.answer(chat, question, chat.tree.all.length === 1);
  }

  async #run(chat, answer, body, isNew = false) {
    const running = this.#answers.run(chat, answer, body);
    this.#handlers.onBegin(chat, { isNew });
    await running;
  }

  /** The request for what comes after `end`. */
  #body(chat, end) {
    const system = chat.settings.system ?? this.#face().defaults?.system ?? "";
    return { messages: messagesFor(chat.tree.path(end.id), { system }), ...requestFields(chat.settings) };
  }

  async #passages(question, documents) {
    if (documents.length === 0 || question === "") return [];
    const contextSize = this.#face().model?.n_ctx ?? USUAL_CONTEXT;
    const room = Math.floor((contextSize * SHARE_OF_CONTEXT) / PASSAGE_TOKENS);
    this.#isPreparing = true;
    this.#handlers.onPrepare();
    try {
      return await this.#library.find(question, documents, Math.min(Math.max(room, 1), MAX_PASSAGES));
    } finally {
      this.#isPreparing = false;
    }
  }
}

function documentsOf(messages) {
  return messages.flatMap(({ attachments }) => attachments).filter(({ kind }) => kind === "document");
}
