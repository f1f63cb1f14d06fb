// The messages of the chat that is shown, kept in step with its branch.

import { strings } from "../language/words.js";
import { $, on } from "./dom.js";
import { Follower } from "./follow.js";
import { AnswerView, QuestionView } from "./message.js";

export class Transcript {
  #actions;
  #troubleOf;
  #views = new Map(); // by message id
  #chat = null;
  #language = strings.language;
  #follower;

  /** `actions` as for a message; `troubleOf(chat, message)` says what is wrong with an answer, or null. */
  constructor(actions, troubleOf) {
    this.#actions = actions;
    this.#troubleOf = troubleOf;
    this.#follower = new Follower($("transcript"), $("column"), (isFollowing) => ($("to-end").hidden = isFollowing));
    on("to-end", "click", () => this.follow());
  }

  /** Show a chat's branch; what is on the page already stays there. */
  show(chat, { isBusy }) {
    const isOther = chat !== this.#chat || this.#language !== strings.language;
    if (isOther) this.#clear();
    this.#chat = chat;
    this.#language = strings.language;
    const path = chat.path;
    const ids = new Set(path.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (ids.has(id)) continue;
      view.root.remove();
      this.#views.delete(id);
    }
    path.forEach((message, index) => {
      let view = this.#views.get(message.id);
      if (!view) {
        view = message.role === "user" ? new QuestionView(message, this.#actions) : new AnswerView(message, this.#actions);
        this.#views.set(message.id, view);
      }
      if ($("messages").children[index] !== view.root) $("messages").insertBefore(view.root, $("messages").children[index] ?? null);
      view.update({
        versions: chat.tree.versions(message),
        isBusy,
        question: message.role === "assistant" ? path[index - 1] : null,
        trouble: message.error ? this.#troubleOf(chat, message) : null,
      });
    });
    $("welcome").hidden = path.length > 0;
    if (isOther) this.follow();
  }

  grow(message) {
    this.#views.get(message.id)?.growSoon();
  }

  editLast() {
    const questions = this.#chat?.path.filter(({ role }) => role === "user") ?? [];
    this.#views.get(questions.at(-1)?.id)?.edit();
  }

  follow() {
    this.#follower.resume();
  }

  #clear() {
    $("messages").replaceChildren();
    this.#views.clear();
  }
}
