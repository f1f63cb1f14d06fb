// Making and finding elements. Text always becomes text nodes: there is no way from here to HTML.

const SVG = "http://www.w3.org/2000/svg";

// Drawn on a grid of 20 with one stroke.
const ICONS = {
  plus: "M10 4.5v11M4.5 10h11",
  search: "M9 15a6 6 0 1 0 0-12 6 6 0 0 0 0 12Zm4.5-1.5 4 4",
  sliders: "M3 6h7m4 0h3M3 14h3m4 0h7M12 4v4M8 12v4",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h13",
  close: "M5 5l10 10M15 5 5 15",
  up: "M10 16V4M5 9l5-5 5 5",
  down: "M10 4v12M5 11l5 5 5-5",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  stop: "M6.5 6.5h7v7h-7z",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  check: "M4 10.5l4 4 8-9",
  retry: "M15.8 8.5A6 6 0 1 0 16 11M16 4v4.5h-4.5",
  edit: "M4 16l.8-3.2L13.5 4l2.5 2.5-8.8 8.7L4 16Z",
  trash: "M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10M8.5 9v4.5M11.5 9v4.5",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  pin: "M7 3.5h6M8 3.5v5l-2.5 3h9L12 8.5v-5M10 11.5V17",
  clip: "M15 9.5l-5.3 5.3a3.3 3.3 0 0 1-4.7-4.7l5.8-5.8a2.2 2.2 0 0 1 3.1 3.1L8.2 13a1.1 1.1 0 0 1-1.5-1.5L12 6.2",
  file: "M5 3h6l4 4v10H5zM11 3v4h4",
  image: "M3.5 4h13v12h-13zM3.5 13l3.5-3.5 3 3 2.5-2.5 4 4M12.5 7.5h.01",
  go: "M4 4.5 16 10 4 15.5 6 10zM6 10h6",
  book: "M4 4h4.5A1.5 1.5 0 0 1 10 5.5V16a1.5 1.5 0 0 0-1.5-1.3H4zM16 4h-4.5A1.5 1.5 0 0 0 10 5.5V16a1.5 1.5 0 0 1 1.5-1.3H16z",
  chat: "M4 4.5h12v8.5H9l-3.5 3V13H4z",
  code: "M7 6l-4 4 4 4M13 6l4 4-4 4",
  power: "M10 3v7M6 5.5a6 6 0 1 0 8 0",
  gear:
    "M10 13a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM10 2.8v2.4M10 14.8v2.4M2.8 10h2.4M14.8 10h2.4M4.9 4.9l1.7 1.7M13.4 13.4l1.7 1.7M4.9 " +
    "15.1l1.7-1.7M13.4 6.6l1.7-1.7",
  info: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14Zm0-8v4.5M10 6.5h.01",
  save: "M10 3v9M6 8.5l4 4 4-4M4 16h12",
  open: "M10 12V3M6 6.5l4-4 4 4M4 16h12",
  undo: "M7 4 3.5 7.5 7 11M4 7.5h7.5a4.5 4.5 0 0 1 0 9H8",
  spark: "M10 3l1.6 5.4L17 10l-5.4 1.6L10 17l-1.6-5.4L3 10l5.4-1.6z",
};

export function $(id) {
  return document.getElementById(id);
}

/** Listen to what happens to an element, given itself or by its id. */
export function on(target, type, listener) {
  (typeof target === "string" ? $(target) : target).addEventListener(type, listener);
}

/** Make an element. Properties with a dash, `class`, `for` and `role` are attributes, `onclick` and the like listeners. */
export function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || /^(?:class|for|role)$/.test(name)) created.setAttribute(name, value);
    else if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
    else created[name] = value;
  }
  created.append(...children.filter((child) => child !== null && child !== false));
  return created;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Draw the icons that elements of the page ask for by name. */
export function drawIcons() {
  for (const place of document.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
}

/** A button with an icon; its words are its name and its tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return element("button", { type: "button", class: "icon", title: label, "aria-label": label, onclick, ...properties }, icon(name));
}

export function textButton(label, onclick, { name = null, ...properties } = {}) {
  return element("button", { type: "button", class: "quiet", onclick, ...properties }, name && icon(name), label);
}

/** Copy a text; true when it worked. */
export async function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false, // the reader said no
    );
  }
  // Over plain HTTP from another machine there is no clipboard API; selecting the text and the old command remain.
  const area = element("textarea", { value: text, class: "for-screen-readers" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isCopied;
}

/** A copy button that says for a moment that it has copied what `read` returns. */
export function copyButton(words, read, properties = {}) {
  const button = iconButton("copy", words.copy, copy, properties);
  async function copy() {
    if (!(await copyText(read()))) return;
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", words.copied);
    button.title = words.copied;
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", words.copy);
      button.title = words.copy;
    }, 2000);
  }
  return button;
}

/** Hand the reader a file. */
export function saveFile({ name, content, type }) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Let the reader pick files; `null` accepts all kinds. */
export function pickFiles({ accept = "", isMultiple = false } = {}) {
  return new Promise((resolve) => {
    const input = element("input", { type: "file", accept, multiple: isMultiple });
    input.addEventListener("change", () => resolve([...input.files]));
    input.addEventListener("cancel", () => resolve([]));
    input.click();
  });
}

export function isTouch() {
  return matchMedia("(hover: none) and (pointer: coarse)").matches;
}

/** Growing text is appended to, which keeps the reader's selection in it. */
export function setText(node, text) {
  if (text === node.data) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
