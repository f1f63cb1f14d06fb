// The list of chats: search, open, rename, pin, delete, save. Knows nothing of how they are kept.

import { strings } from "../language/words.js";
import { $, element, icon, iconButton, on } from "./dom.js";

const DAY_MS = 86_400_000;
const SEARCH_PAUSE_MS = 150;
const FIRST_ROWS = 60; // the rest comes when there is time

export class Sidebar {
  #handlers;
  #chats = [];
  #current = null;
  #isRunning = () => false;
  #words = "";
  #drawing = 0;

  /** `handlers`: onOpen(id), onSearch(words), onRename(id, title), onPin(id, isPinned), onDelete(id), onSave(id, kind). */
  constructor(handlers) {
    this.#handlers = handlers;
    let timer = null;
    on("search", "input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        this.#words = $("search").value.trim();
        handlers.onSearch(this.#words);
      }, SEARCH_PAUSE_MS);
    });
    on("chats", "keydown", (event) => this.#move(event));
  }

  get words() {
    return this.#words;
  }

  /** `chats` as the server lists them; `current` is the id of the open one; `isRunning(id)`: it is being answered. */
  show(chats, { current, isRunning }) {
    this.#chats = chats;
    this.#current = current;
    this.#isRunning = isRunning;
    this.draw();
  }

  draw() {
    const rows = this.#rows();
    const focused = document.activeElement?.closest?.("[data-chat]")?.dataset.chat;
    const drawing = ++this.#drawing;
    $("chats").replaceChildren(...rows.splice(0, FIRST_ROWS).map((make) => make()));
    if (focused) this.#focus(focused);
    const more = () => {
      if (drawing !== this.#drawing || rows.length === 0) return;
      $("chats").append(...rows.splice(0, FIRST_ROWS).map((make) => make()));
      requestAnimationFrame(more);
    };
    requestAnimationFrame(more);
    const isEmpty = this.#chats.length === 0;
    $("no-chats").hidden = !isEmpty;
    $("no-chats").textContent = this.#words ? strings.noneFound : strings.noChats;
  }

  /** Functions that make the rows: a heading where a new time begins, then its chats. */
  #rows() {
    const rows = [];
    let group = null;
    for (const chat of this.#chats) {
      const name = this.#words ? null : groupOf(chat);
      if (name !== group) rows.push(() => element("li", { class: "group" }, strings[name]));
      group = name;
      rows.push(() => this.#row(chat));
    }
    return rows;
  }

  #row(chat) {
    const title = chat.title || strings.untitled;
    const isCurrent = chat.id === this.#current;
    const button = element(
      "button",
      { type: "button", class: "open", onclick: () => this.#handlers.onOpen(chat.id) },
      element("span", { class: "title", dir: "auto" }, title),
    );
    if (isCurrent) button.setAttribute("aria-current", "true");
    if (chat.snippet) button.append(element("span", { class: "snippet", dir: "auto" }, chat.snippet));
    if (this.#isRunning(chat.id)) button.append(element("span", { class: "pulse", role: "img", "aria-label": strings.answeringHere }));
    const more = iconButton("more", strings.chatMenu(title), () => this.#openMenu(more, chat), { "aria-haspopup": "menu" });
    return element("li", { "data-chat": chat.id, class: isCurrent ? "is-current" : "" }, button, more);
  }

  #openMenu(anchor, chat) {
    const item = (name, words, run) => {
      const onclick = () => {
        menu.hidePopover();
        run();
      };
      return element("button", { type: "button", role: "menuitem", onclick }, icon(name), words);
    };
    const menu = element(
      "div",
      { class: "menu", role: "menu", popover: "auto" },
      item("edit", strings.rename, () => this.#rename(chat)),
      item("pin", chat.is_pinned ? strings.unpin : strings.pin, () => this.#handlers.onPin(chat.id, !chat.is_pinned)),
      item("file", strings.exportMarkdown, () => this.#handlers.onSave(chat.id, "md")),
      item("save", strings.exportJson, () => this.#handlers.onSave(chat.id, "json")),
      item("trash", strings.delete, () => this.#handlers.onDelete(chat.id)),
    );
    anchor.after(menu);
    on(menu, "toggle", ({ newState }) => newState === "closed" && menu.remove());
    on(menu, "keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const items = [...menu.children];
      items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
    });
    menu.showPopover();
    const { bottom, right, left, top } = anchor.getBoundingClientRect();
    const { offsetHeight: height, offsetWidth: width } = menu;
    menu.style.top = `${bottom + height > innerHeight ? top - height : bottom}px`;
    menu.style.left = `${Math.max(8, Math.min(document.dir === "rtl" ? left : right - width, innerWidth - width - 8))}px`;
    menu.firstElementChild.focus();
  }

  #rename(chat) {
    const row = $("chats").querySelector(`[data-chat="${CSS.escape(chat.id)}"]`);
    const input = element("input", { value: chat.title, class: "rename", "aria-label": strings.chatTitle, maxLength: 200 });
    let isDone = false;
    const finish = (isKept) => {
      if (isDone) return;
      isDone = true;
      const title = input.value.trim();
      this.draw();
      this.#focus(chat.id);
      if (isKept && title !== "" && title !== chat.title) this.#handlers.onRename(chat.id, title);
    };
    on(input, "keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        event.preventDefault(); // else it would press the row's button, which gets the focus
        finish(true);
      }
      if (event.key === "Escape") finish(false);
      event.stopPropagation();
    });
    on(input, "blur", () => finish(true));
    row.replaceChildren(input);
    input.focus();
    input.select();
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.closest(".menu")) return;
    const buttons = [...$("chats").querySelectorAll(".open")];
    const index = buttons.indexOf(event.target);
    if (index < 0) return;
    event.preventDefault();
    buttons[index + step]?.focus();
  }

  #focus(id) {
    $("chats")
      .querySelector(`[data-chat="${CSS.escape(id)}"] .open`)
      ?.focus();
  }
}

function groupOf({ is_pinned: isPinned, updated }) {
  if (isPinned) return "pinned";
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (updated >= midnight) return "today";
  if (updated >= midnight - DAY_MS) return "yesterday";
  return updated >= midnight - 7 * DAY_MS ? "thisWeek" : "older";
}
