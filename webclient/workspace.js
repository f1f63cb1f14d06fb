// The chats and the one that is open: what the reader does to them, shown and kept.

import { Answers } from "./conversation/answers.js";
import { Chat } from "./conversation/chat.js";
import { fileName, toMarkdown } from "./conversation/markdown.js";
import { messagesFor } from "./conversation/prompt.js";
import { Library } from "./documents/library.js";
import { strings } from "./language/words.js";
import { Fault } from "./api/api.js";
import { Saver } from "./api/saver.js";
import { requestFields } from "./settings/fields.js";
import { SettingsPanel, numChanged } from "./settings/panel.js";
import { Attachments } from "./ui/attachments.js";
import { Composer } from "./ui/composer.js";
import { $, saveFile } from "./ui/dom.js";
import { explain } from "./ui/face.js";
import { Sidebar } from "./ui/sidebar.js";
import { toast } from "./ui/toast.js";
import { Transcript } from "./ui/transcript.js";

const PASSAGE_TOKENS = 300; // about; what fits into a part of the context is put into the prompt
const SHARE_OF_CONTEXT = 0.3;
const MAX_PASSAGES = 8;
const SETTINGS_PAUSE_MS = 400;

export class Workspace {
  #chats;
  #presets;
  #face;
  #checkServer;
  #chat = new Chat();
  #list = [];
  #canSend = false;
  #saver;
  #answers;
  #library = new Library();
  #transcript;
  #composer;
  #sidebar;
  #panel;
  #opened = new Map(); // by id: chats whose answers are still being written, and those that could not be kept
  #settingsTimer = null;
  #isPreparing = false;

  /** `face()` returns the bundle's face as it is known by now; `checkServer` looks at once how the program is. */
  constructor({ chats, presets, face, checkServer }) {
    this.#chats = chats;
    this.#presets = presets;
    this.#face = face;
    this.#checkServer = checkServer;
    this.#saver = new Saver(chats, {
      onTrouble: (error) => (error.fault === Fault.UNREACHABLE ? checkServer() : toast(strings.notSaved)),
      onRecovery: () => this.#refreshList(),
      onRefusal: (chat, error) => this.#refused(chat, error),
    });
    this.#answers = new Answers(this.#saver, {
      onGrow: (chat, message) => chat === this.#chat && this.#transcript.grow(message),
      onEnd: (chat, message) => this.#ended(chat, message),
    });
    this.#transcript = new Transcript(
      {
        edit: (message, text) => this.#edit(message, text),
        regenerate: (message) => this.#answer(this.#chat, this.#chat.tree.get(message.parent)),
        proceed: (message) => this.#proceed(message),
        remove: (message) => this.#remove(message),
        show: (message) => this.#show(message),
      },
      (chat, message) => this.#troubleOf(chat, message),
    );
    const facts = () => ({ contextSize: face().model?.n_ctx ?? null, canSee: face().modalities?.vision === true });
    this.#composer = new Composer(
      { onAsk: (text, files) => this.ask(text, files), onStop: () => this.stop(), onEditLast: () => this.#transcript.editLast() },
      new Attachments(this.#library, facts),
    );
    this.#sidebar = new Sidebar({
      onOpen: (id) => this.open(id),
      onSearch: () => this.#refreshList(),
      onRename: (id, title) => this.#change(id, { title }),
      onPin: (id, isPinned) => this.#change(id, { is_pinned: isPinned }),
      onDelete: (id) => this.#delete(id),
      onSave: (id, kind) => this.#save(id, kind),
    });
    this.#panel = new SettingsPanel(presets, (settings) => this.#setSettings(settings));
    $("new-chat").addEventListener("click", () => this.open(null));
    addEventListener("hashchange", () => location.hash.slice(1) !== this.#chat.id && this.open(location.hash.slice(1) || null));
    addEventListener("pagehide", () => this.#saver.flush());
  }

  get settings() {
    return this.#chat.settings;
  }

  get isAnswering() {
    return this.#isPreparing || this.#answers.isRunning(this.#chat.id);
  }

  setCanSend(canSend) {
    this.#canSend = canSend;
    this.#updateComposer();
  }

  /** Open a chat by its id; null, and one that is not there, opens a new one. */
  async open(id) {
    const known = this.#opened.get(id);
    const chat =
      known ??
      (id === null
        ? null
        : await this.#chats
            .read(id)
            .then((json) => json && Chat.fromJson(json))
            .catch(() => null));
    this.#chat = chat ?? new Chat();
    if (!chat) this.#chat.settings = this.#presets.latest;
    history.replaceState(null, "", chat ? `#${chat.id}` : " ");
    this.redraw();
    this.#composer.focus();
    await this.#refreshList();
  }

  /** Look again at what the program keeps, after it was away or the page was. */
  async refresh() {
    this.#showSettings();
    await this.#saver.flush();
    await this.#refreshList();
  }

  redraw() {
    this.#draw();
    this.#showSettings();
    this.#sidebar.draw();
  }

  async ask(text, attachments = []) {
    if (this.isAnswering || !this.#canSend) return;
    const chat = this.#chat;
    const documents = [...chat.path.flatMap((message) => message.attachments), ...attachments].filter(({ kind }) => kind === "document");
    const question = chat.ask(text, { attachments: await this.#withPassages(text, attachments, documents) });
    await this.#begin(chat, question);
  }

  stop() {
    this.#answers.stop(this.#chat.id);
  }

  /** Wait until all is saved. */
  rest() {
    for (const id of this.#opened.keys()) this.#answers.stop(id);
    return this.#saver.flush();
  }

  async exportAll() {
    saveFile(
      fileName(`${this.#face().name ?? "holdall"} chats`, "json"),
      JSON.stringify(await this.#chats.exported(), null, 1),
      "application/json",
    );
  }

  async import(file) {
    const document = await file
      .text()
      .then(JSON.parse)
      .catch(() => null);
    try {
      if (document?.format !== "holdall.chats") throw new Error(strings.notAChatFile);
      toast(strings.imported(await this.#chats.import(document)));
    } catch (error) {
      toast(strings.importFailed(error.message));
    }
    await this.#refreshList();
  }

  // Answers

  async #begin(chat, question) {
    history.replaceState(null, "", `#${chat.id}`);
    const isFirst = chat.tree.all.length === 1;
    await this.#answer(chat, question, isFirst);
  }

  async #answer(chat, question, isNew = false) {
    if (this.#answers.isRunning(chat.id)) return;
    const body = this.#body(chat, chat.tree.path(question.id));
    const answer = chat.answer(question);
    this.#saver.soon(chat, question);
    if (isNew) this.#saver.flush().then(() => this.#changeQuietly(chat));
    await this.#run(chat, answer, body);
  }

  #proceed(message) {
    if (this.#answers.isRunning(this.#chat.id)) return;
    const body = this.#body(this.#chat, this.#chat.tree.path(message.id));
    this.#run(this.#chat, message, { ...body, add_generation_prompt: false, continue_final_message: true });
  }

  async #run(chat, answer, body) {
    this.#opened.set(chat.id, chat);
    const running = this.#answers.run(chat, answer, body);
    $("announcer").textContent = strings.answering;
    this.#draw();
    this.#transcript.follow();
    this.#refreshList();
    await running;
  }

  #body(chat, path) {
    const system = chat.settings.system ?? this.#face().defaults?.system ?? "";
    return { messages: messagesFor(path, { system }), ...requestFields(chat.settings) };
  }

  #ended(chat, message) {
    if (!this.#saver.isRefused(chat)) this.#opened.delete(chat.id);
    if (message.error) this.#checkServer();
    if (chat === this.#chat) {
      this.#draw();
      $("announcer").textContent = message.content;
      this.#composer.focus();
    }
    this.#saver.flush().then(() => this.#refreshList());
  }

  async #withPassages(text, attachments, documents) {
    if (documents.length === 0 || text === "") return attachments;
    const contextSize = this.#face().model?.n_ctx ?? 4096;
    const room = Math.floor((contextSize * SHARE_OF_CONTEXT) / PASSAGE_TOKENS);
    this.#isPreparing = true;
    this.#updateComposer();
    try {
      const passages = await this.#library.find(text, documents, Math.min(Math.max(room, 1), MAX_PASSAGES));
      return [...attachments, ...passages];
    } finally {
      this.#isPreparing = false;
    }
  }

  #troubleOf(chat, message) {
    const { error } = message;
    if (error.fault === Fault.CONTEXT_FULL) {
      const isAlone = chat.path.length <= 2;
      const { numPromptTokens: needed, contextSize: room } = error;
      const words = isAlone ? strings.errorTooLong : needed && room ? strings.errorContextFullBy(needed, room) : strings.errorContextFull;
      return { words, remedy: strings.newChat, onRemedy: () => this.open(null) };
    }
    const retry = () => {
      const question = chat.tree.get(message.parent);
      if (message.content === "") {
        this.#saver.forget(chat.remove(message));
        this.#chats.removeMessage(chat.id, message.id).catch(() => {});
        chat.show(question);
      }
      this.#answer(chat, question);
    };
    return { words: explain(error), remedy: strings.tryAgain, onRemedy: retry };
  }

  // Branches

  async #edit(message, text) {
    if (this.isAnswering) return;
    const chat = this.#chat;
    const kept = message.attachments.filter(({ kind }) => kind !== "passage");
    const path = chat.tree.path(message.id);
    const documents = path.flatMap(({ attachments }) => attachments).filter(({ kind }) => kind === "document");
    const question = chat.ask(text, { parent: message.parent, attachments: await this.#withPassages(text, kept, documents) });
    await this.#begin(chat, question);
  }

  #show(message) {
    this.#chat.show(message);
    this.#keep(this.#chats.change(this.#chat.id, { leaf: this.#chat.leaf }));
    this.#draw();
  }

  #remove(message) {
    const chat = this.#chat;
    const { leaf } = chat;
    const removed = chat.remove(message);
    this.#saver.forget(removed);
    this.#keep(this.#saver.isRefused(chat) ? this.#saveWhole(chat) : this.#removeKept(chat, message));
    this.#draw();
    const undo = async () => {
      for (const each of removed) chat.tree.add(each);
      chat.leaf = leaf;
      if (chat === this.#chat) this.#draw();
      await this.#keep(this.#saveWhole(chat));
    };
    toast(strings.messagesDeleted, { label: strings.undo, run: undo });
  }

  async #removeKept(chat, message) {
    await this.#chats.removeMessage(chat.id, message.id);
    await this.#chats.change(chat.id, { leaf: chat.leaf });
  }

  // What could not be kept

  #refused(chat, error) {
    this.#opened.set(chat.id, chat);
    this.#drawTitle();
    toast(strings.notKept(error.message), { label: strings.exportJson, run: () => this.#save(chat.id, "json") });
  }

  async #saveWhole(chat) {
    await this.#saver.saveWhole(chat);
    if (!this.#saver.isRefused(chat) && !this.#answers.isRunning(chat.id)) this.#opened.delete(chat.id);
    this.#drawTitle();
  }

  // The list

  async #refreshList() {
    const list = await this.#chats.list(this.#sidebar.words).catch(() => null);
    if (list !== null) this.#list = list;
    this.#sidebar.show(this.#list, { current: this.#chat.id, isRunning: (id) => this.#answers.isRunning(id) });
  }

  async #change(id, fields) {
    if (id === this.#chat.id) {
      this.#chat.title = fields.title ?? this.#chat.title;
      this.#chat.isPinned = fields.is_pinned ?? this.#chat.isPinned;
      this.#drawTitle();
    }
    await this.#keep(this.#chats.change(id, fields));
    await this.#refreshList();
  }

  async #delete(id) {
    this.#answers.stop(id);
    await this.#saver.flush();
    const chat = await this.#chats.read(id).catch(() => null);
    await this.#keep(this.#chats.remove(id));
    if (id === this.#chat.id) await this.open(null);
    else await this.#refreshList();
    const undo = async () => {
      await this.#keep(this.#chats.write(chat));
      await this.open(id);
    };
    toast(strings.chatDeleted, chat && { label: strings.undo, run: undo });
  }

  async #save(id, kind) {
    const chat = this.#opened.get(id) ?? Chat.fromJson(await this.#chats.read(id));
    if (kind === "md") return saveFile(fileName(chat.title, "md"), toMarkdown(chat, strings), "text/markdown");
    const document = { format: "holdall.chats", version: 1, chats: [chat.toJson()] };
    saveFile(fileName(chat.title, "json"), JSON.stringify(document, null, 1), "application/json");
  }

  /** Wait for a change to be kept; say so when it was not. */
  #keep(promise) {
    return promise.catch(() => toast(strings.notSaved));
  }

  // Settings

  #setSettings(settings) {
    const chat = this.#chat;
    chat.settings = settings;
    this.#presets.latest = settings;
    this.#showNumChanged();
    clearTimeout(this.#settingsTimer);
    if (!chat.isEmpty) this.#settingsTimer = setTimeout(() => this.#changeQuietly(chat), SETTINGS_PAUSE_MS);
  }

  #changeQuietly(chat) {
    if (!this.#saver.isRefused(chat)) this.#chats.change(chat.id, { settings: chat.settings }).catch(() => {});
  }

  #showSettings() {
    this.#panel.show(this.#chat.settings, this.#face().defaults);
    this.#showNumChanged();
  }

  #showNumChanged() {
    const changed = numChanged(this.#chat.settings);
    $("num-changed").textContent = changed || "";
    $("num-changed").hidden = changed === 0;
  }

  // What is shown

  #draw() {
    this.#transcript.show(this.#chat, { isBusy: this.isAnswering });
    this.#drawTitle();
    this.#updateComposer();
  }

  #drawTitle() {
    $("chat-title").textContent = this.#chat.isEmpty ? strings.newChat : this.#chat.title || strings.untitled;
    $("unsaved").hidden = !this.#saver.isRefused(this.#chat);
  }

  #updateComposer() {
    this.#composer.setState({ canSend: this.#canSend, isAnswering: this.isAnswering });
  }
}
