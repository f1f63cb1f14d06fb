// The chats and the one that is open: what the reader does to them, shown and kept.

import { Asking } from "./conversation/asking.js";
import { Chat } from "./conversation/chat.js";
import { documentIn, fileOf, fileOfAll } from "./conversation/export.js";
import { Keeping } from "./conversation/keeping.js";
import { Library } from "./documents/library.js";
import { strings } from "./language/words.js";
import { Fault } from "./api/api.js";
import { Saver } from "./api/saver.js";
import { Attachments } from "./ui/attachments.js";
import { Composer } from "./ui/composer.js";
import { $, on, saveFile } from "./ui/dom.js";
import { explain, explainFull } from "./ui/face.js";
import { ChatSettings } from "./ui/settings.js";
import { Sidebar } from "./ui/sidebar.js";
import { toast } from "./ui/toast.js";
import { Transcript } from "./ui/transcript.js";

export class Workspace {
  #chats;
  #presets;
  #face;
  #checkServer;
  #chat = new Chat();
  #list = [];
  #canSend = false;
  #saver;
  #asking;
  #keeping;
  #transcript;
  #composer;
  #sidebar;
  #settings;

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
    const library = new Library();
    this.#asking = new Asking(
      { chats, saver: this.#saver, library, face },
      {
        onPrepare: () => this.#updateComposer(),
        onBegin: (chat, { isNew }) => this.#begun(chat, isNew),
        onGrow: (chat, message) => chat === this.#chat && this.#transcript.grow(message),
        onEnd: (chat, message) => this.#ended(chat, message),
      },
    );
    this.#keeping = new Keeping(chats, this.#saver, (id) => this.#asking.isRunning(id));
    this.#transcript = new Transcript(
      {
        edit: (message, text) => this.#asking.edit(this.#chat, message, text),
        regenerate: (message) => this.#asking.answer(this.#chat, this.#chat.tree.get(message.parent)),
        proceed: (message) => this.#asking.proceed(this.#chat, message),
        remove: (message) => this.#remove(message),
        show: (message) => this.#show(message),
      },
      (chat, message) => this.#troubleOf(chat, message),
    );
    const facts = () => ({ contextSize: face().model?.n_ctx ?? null, canSee: face().modalities?.vision === true });
    this.#composer = new Composer(
      { onAsk: (text, files) => this.ask(text, files), onStop: () => this.stop(), onEditLast: () => this.#transcript.editLast() },
      new Attachments(library, facts),
    );
    this.#sidebar = new Sidebar({
      onOpen: (id) => this.open(id),
      onSearch: () => this.#refreshList(),
      onRename: (id, title) => this.#change(id, { title }),
      onPin: (id, isPinned) => this.#change(id, { is_pinned: isPinned }),
      onDelete: (id) => this.#delete(id),
      onSave: (id, kind) => this.#save(id, kind),
    });
    this.#settings = new ChatSettings(presets, (chat) => this.#keeping.saveSettings(chat));
    on("new-chat", "click", () => this.open(null));
    addEventListener("hashchange", () => location.hash.slice(1) !== this.#chat.id && this.open(location.hash.slice(1) || null));
    addEventListener("pagehide", () => this.#saver.flush());
  }

  get settings() {
    return this.#chat.settings;
  }

  get isAnswering() {
    return this.#asking.isBusy(this.#chat);
  }

  setCanSend(canSend) {
    this.#canSend = canSend;
    this.#updateComposer();
  }

  /** Open a chat by its id; null, and one that is not there, opens a new one. */
  async open(id) {
    const chat = id === null ? null : await this.#keeping.read(id);
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
    if (this.#canSend) await this.#asking.ask(this.#chat, text, attachments);
  }

  stop() {
    this.#asking.stop(this.#chat.id);
  }

  /** Wait until all is saved. */
  rest() {
    for (const id of this.#keeping.heldIds) this.#asking.stop(id);
    return this.#saver.flush();
  }

  async exportAll() {
    const exported = await this.#chats.exported();
    saveFile(fileOfAll(`${this.#face().name ?? "holdall"} chats`, exported));
    if (exported.left_out) toast(strings.exportLeftOut(exported.left_out.length));
  }

  async import(file) {
    try {
      const document = documentIn(await file.text());
      if (document === null) throw new Error(strings.notAChatFile);
      toast(strings.imported(await this.#chats.import(document)));
    } catch (error) {
      toast(strings.importFailed(error.message));
    }
    await this.#refreshList();
  }

  // Answers

  #begun(chat, isNew) {
    this.#keeping.hold(chat);
    if (chat === this.#chat) history.replaceState(null, "", `#${chat.id}`);
    if (isNew) this.#saver.flush().then(() => this.#keeping.saveSettings(chat));
    $("announcer").textContent = strings.answering;
    this.#draw();
    this.#transcript.follow();
    this.#refreshList();
  }

  #ended(chat, message) {
    this.#keeping.release(chat);
    if (message.error) this.#checkServer();
    if (chat === this.#chat) {
      this.#draw();
      $("announcer").textContent = message.content;
      this.#composer.focus();
    }
    this.#saver.flush().then(() => this.#refreshList());
  }

  #troubleOf(chat, message) {
    const { error } = message;
    if (error.fault === Fault.CONTEXT_FULL) {
      const words = explainFull(error, { isAlone: chat.path.length <= 2 });
      return { words, remedy: strings.newChat, onRemedy: () => this.open(null) };
    }
    return { words: explain(error), remedy: strings.tryAgain, onRemedy: () => this.#asking.retry(chat, message) };
  }

  // Branches

  #show(message) {
    this.#chat.show(message);
    this.#keep(this.#keeping.saveLeaf(this.#chat));
    this.#draw();
  }

  #remove(message) {
    const chat = this.#chat;
    const { saved, undo } = this.#keeping.remove(chat, message);
    this.#settle(chat, saved);
    toast(strings.messagesDeleted, { label: strings.undo, run: () => this.#settle(chat, undo()) });
  }

  async #settle(chat, saved) {
    if (chat === this.#chat) this.#draw();
    await this.#keep(saved);
    this.#drawTitle();
  }

  #refused(chat, error) {
    this.#keeping.hold(chat);
    this.#drawTitle();
    toast(strings.notKept(error.message), { label: strings.exportJson, run: () => this.#save(chat.id, "json") });
  }

  // The list

  async #refreshList() {
    const list = await this.#chats.list(this.#sidebar.words).catch(() => null);
    if (list !== null) this.#list = list;
    this.#sidebar.show(this.#list, { current: this.#chat.id, isRunning: (id) => this.#asking.isRunning(id) });
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
    this.#asking.stop(id);
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
    const chat = await this.#keeping.read(id);
    if (chat === null) return toast(strings.notSaved);
    saveFile(fileOf(chat, kind, strings));
  }

  /** Wait for a change to be kept; say so when it was not. */
  #keep(promise) {
    return promise.catch(() => toast(strings.notSaved));
  }

  // What is shown

  #showSettings() {
    this.#settings.show(this.#chat, this.#face());
  }

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
