// The settings of the chat that is open: the panel, how many of them the reader has changed, and when they are kept.

import { SettingsPanel, numChanged } from "../settings/panel.js";
import { $ } from "./dom.js";

const PAUSE_MS = 400;

export class ChatSettings {
  #presets;
  #panel;
  #onRest;
  #chat = null;
  #timer = null;

  /** `onRest(chat)` is called when the reader has changed something in a chat that isn't new, and has paused. */
  constructor(presets, onRest) {
    this.#presets = presets;
    this.#panel = new SettingsPanel(presets, (settings) => this.#set(settings));
    this.#onRest = onRest;
  }

  show(chat, face) {
    this.#chat = chat;
    this.#panel.show(chat.settings, face);
    this.#showNumChanged();
  }

  #set(settings) {
    const chat = this.#chat;
    chat.settings = settings;
    this.#presets.latest = settings;
    this.#showNumChanged();
    clearTimeout(this.#timer);
    if (!chat.isEmpty) this.#timer = setTimeout(() => this.#onRest(chat), PAUSE_MS);
  }

  #showNumChanged() {
    const changed = numChanged(this.#chat.settings);
    $("num-changed").textContent = changed || "";
    $("num-changed").hidden = changed === 0;
  }
}
