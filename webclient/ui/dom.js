// Making and finding elements. Text always becomes text nodes: there is no way from here to HTML.

const SVG = "http://www.w3.org/2000/svg";

// Drawn on a grid of 20 with one stroke.
const ICONS = {
  plus: "M10 4.5v11M4.5 10h11",
  search: "M9 15a6 6 0 1 0 0-12 6 6 0 0 0 0 12Zm4.5-1.500 4 4",
  sliders: "M3 6h7m4 0h3M3 14h3m4 0h7M12 4v4M8 12v4",
  menu: "M3.500 6h13M3.500 10h13M3.500 14h13",
  close: "M5 5l10 10M15 5 5 15",
  up: "M10 16V4M5 9l5-5 5 5",
  down: "M10 4v12M5 11l5 5 5-5",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  stop: "M6.500 6.500h7v7h-7z",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  check: "M4 10.500l4 4 8-9",
  retry: "M15.800 8.500A6 6 0 1 0 16 11M16 4v4.500h-4.500",
  edit: "M4 16l.8-3.200L13.500 4l2.500 2.500-8.800 8.700L4 16Z",
  trash: "M4 6h12M8 6V4h4v2M5.500 6l.7 10h7.600l.7-10M8.500 9v4.500M11.500 9v4.500",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  pin: "M7 3.500h6M8 3.500v5l-2.500 3h9L12 8.500v-5M10 11.500V17",
  clip: "M15 9.500l-5.300 5.300a3.300 3.300 0 0 1-4.700-4.700l5.800-5.800a2.200 2.200 0 0 1 3.100 3.100L8.200 13a1.100 1.100 0 0 1-1.500-1.500L12 6.200",
  file: "M5 3h6l4 4v10H5zM11 3v4h4",
  image: "M3.500 4h13v12h-13zM3.500 13l3.500-3.500 3 3 2.500-2.500 4 4M12.500 7.500h.01",
  go: "M4 4.500 16 10 4 15.500 6 10zM6 10h6",
  book: "M4 4h4.500A1.500 1.500 0 0 1 10 5.500V16a1.500 1.500 0 0 0-1.500-1.300H4zM16 4h-4.500A1.500 1.500 0 0 0 10 5.500V16a1.500 1.500 0 0 1 1.500-1.300H16z",
  chat: "M4 4.500h12v8.500H9l-3.500 3V13H4z",
  code: "M7 6l-4 4 4 4M13 6l4 4-4 4",
  power: "M10 3v7M6 5.500a6 6 0 1 0 8 0",
  gear: "M10 12.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM10 3v2M10 15v2M3 10h2M15 10h2M5 5l1.500 1.500M13.500 13.500 15 15M5 15l1.500-1.500M13.500 6.500 15 5",
  info: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14Zm0-8v4.500M10 6.500h.01",
  save: "M10 3v9M6 8.500l4 4 4-4M4 16h12",
  open: "M10 12V3M6 6.500l4-4 4 4M4 16h12",
  undo: "M7 4 3.500 7.500 7 11M4 7.500h7.500a4.500 4.500 0 0 1 0 9H8",
  spark: "M10 3l1.600 5.400L17 10l-5.400 1.600L10 17l-1.600-5.400L3 10l5.400-1.600z",
};

export function $(id) {
  return document.getElementById(id);
}

/** Make an element. Properties with a dash and `role` are attributes, `onclick` and the like listeners. */
export function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") created.setAttribute(name, value);
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

/** A button with an icon; its words are its name and its tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return element("button", { type: "button", className: "icon", title: label, "aria-label": label, onclick, ...properties }, icon(name));
}

export function textButton(label, onclick, { name = null, className = "quiet", ...properties } = {}) {
  return element("button", { type: "button", className, onclick, ...properties }, name && icon(name), label);
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
  const area = element("textarea", { value: text, className: "for-screen-readers" });
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
export function saveFile(name, content, type) {
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
