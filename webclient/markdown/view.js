// Markdown as elements of the page, kept in step with a text that grows: only what changed is touched.

import { strings } from "../language/words.js";
import { copyButton, element, setText } from "../ui/dom.js";
import { GrowingBlocks } from "./blocks.js";
import { highlightLine, languageNamed } from "./highlight.js";
import { parseInline } from "./inline.js";
import { mathElement } from "./math.js";

export class MarkdownView {
  #blocks = new GrowingBlocks();
  #children;

  constructor(root) {
    this.#children = new Children(root);
  }

  show(text, { isGrowing = false } = {}) {
    this.#children.show(this.#blocks.read(text, { isGrowing }), isGrowing);
  }
}

/** The views of a list of blocks, in one container. */
class Children {
  #root;
  #views = [];
  #shown = [];
  #wasGrowing = false;

  constructor(root) {
    this.#root = root;
  }

  show(blocks, isGrowing) {
    blocks.forEach((block, index) => {
      const isLast = index === blocks.length - 1;
      const grows = isGrowing && isLast;
      const view = this.#views[index];
      const before = this.#shown[index];
      if (block === before && !isLast && !(this.#wasGrowing && index === this.#shown.length - 1)) return;
      if (view && before.kind === block.kind && view.fits(block)) view.show(block, grows);
      else {
        const created = new VIEWS[block.kind](block);
        created.show(block, grows);
        if (view) view.root.replaceWith(created.root);
        else this.#root.append(created.root);
        this.#views[index] = created;
      }
    });
    for (const view of this.#views.splice(blocks.length)) view.root.remove();
    this.#shown = blocks;
    this.#wasGrowing = isGrowing;
  }
}

class View {
  fits() {
    return true;
  }
}

/** A paragraph's inside. Nodes that are as before stay; a text at the end is appended to. */
class InlineView {
  #root;
  #text = null;
  #isGrowing = false;
  #nodes = [];

  constructor(root) {
    this.#root = root;
  }

  show(text, isGrowing) {
    if (text === this.#text && isGrowing === this.#isGrowing) return;
    this.#text = text;
    this.#isGrowing = isGrowing;
    const nodes = parseInline(text, { isGrowing });
    const before = this.#nodes;
    let same = 0;
    while (same < nodes.length && same < before.length && isSame(nodes[same], before[same])) same++;
    const last = this.#root.childNodes[same];
    if (typeof nodes[same] === "string" && last instanceof Text) setText(last, nodes[same++]);
    while (this.#root.childNodes.length > same) this.#root.lastChild.remove();
    this.#root.append(...nodes.slice(same).map(inlineElement));
    this.#nodes = nodes;
  }
}

function isSame(node, other) {
  if (typeof node === "string" || typeof other === "string") return node === other;
  if (node.kind !== other.kind || node.text !== other.text || node.address !== other.address) return false;
  const children = node.children ?? [];
  const others = other.children ?? [];
  return children.length === others.length && children.every((child, index) => isSame(child, others[index]));
}

const INLINE_TAGS = { strong: "strong", emphasis: "em", deleted: "del" };

function inlineElement(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const children = () => node.children.map(inlineElement);
  switch (node.kind) {
    case "code":
      return element("code", { dir: "ltr" }, node.text);
    case "math":
      return mathElement(node.text, { isBlock: false });
    case "break":
      return element("br");
    case "link":
      return element("a", { href: node.address, target: "_blank", rel: "noopener noreferrer" }, ...children());
    default:
      return element(INLINE_TAGS[node.kind], {}, ...children());
  }
}

class ParagraphView extends View {
  root = element("p", { dir: "auto" });
  #inline = new InlineView(this.root);

  show({ text }, isGrowing) {
    this.#inline.show(text, isGrowing);
  }
}

class HeadingView extends View {
  #inline;
  #level;

  constructor({ level }) {
    super();
    this.#level = level;
    // The page's own headings are above an answer's.
    this.root = element(`h${Math.min(level + 3, 6)}`, { dir: "auto", class: `level-${level}` });
    this.#inline = new InlineView(this.root);
  }

  fits({ level }) {
    return level === this.#level;
  }

  show({ text }, isGrowing) {
    this.#inline.show(text, isGrowing);
  }
}

class RuleView extends View {
  root = element("hr");

  show() {}
}

class QuoteView extends View {
  root = element("blockquote", { dir: "auto" });
  #children = new Children(this.root);

  show({ children }, isGrowing) {
    this.#children.show(children, isGrowing);
  }
}

class ListView extends View {
  #isOrdered;
  #items = [];

  constructor({ isOrdered }) {
    super();
    this.#isOrdered = isOrdered;
    this.root = element(isOrdered ? "ol" : "ul", { dir: "auto" });
  }

  fits({ isOrdered }) {
    return isOrdered === this.#isOrdered;
  }

  show({ items, start, isTight }, isGrowing) {
    if (this.#isOrdered && this.root.start !== start) this.root.start = start;
    this.root.classList.toggle("tight", isTight);
    items.forEach((item, index) => {
      this.#items[index] ??= this.#newItem();
      this.#items[index].show(item, isGrowing && index === items.length - 1);
    });
    for (const view of this.#items.splice(items.length)) view.root.remove();
  }

  #newItem() {
    const view = new ItemView();
    this.root.append(view.root);
    return view;
  }
}

class ItemView {
  root = element("li");
  #box = null;
  #children = new Children(this.root);
  #source = "";

  show(item, isGrowing) {
    // Lists are read anew as a whole while they grow; what reads the same is the same.
    const source = JSON.stringify(item) + isGrowing;
    if (source === this.#source) return;
    this.#source = source;
    this.#children.show(item.children, isGrowing);
    if (item.isChecked === null) return;
    if (this.#box === null) {
      this.#box = element("input", { type: "checkbox", disabled: true, "aria-label": strings.task });
      this.root.classList.add("task");
      this.root.prepend(this.#box);
    }
    this.#box.checked = item.isChecked;
  }
}

class TableView extends View {
  #head = element("thead");
  #body = element("tbody");
  #rows = [];
  #columns = "";

  constructor() {
    super();
    this.root = element(
      "div",
      { class: "table", tabIndex: 0, role: "region", "aria-label": strings.table, dir: "auto" },
      element("table", {}, this.#head, this.#body),
    );
  }

  fits({ columns }) {
    return this.#columns === "" || this.#columns === JSON.stringify(columns);
  }

  show({ head, rows, columns }, isGrowing) {
    this.#columns = JSON.stringify(columns);
    [head, ...rows].forEach((cells, index) => {
      this.#rows[index] ??= this.#newRow(columns, index === 0);
      for (const [column, text] of cells.entries()) this.#rows[index][column].show(text, isGrowing && index === rows.length);
    });
    for (const row of this.#rows.splice(rows.length + 1)) row[0].cell.parentElement.remove();
  }

  #newRow(columns, isHead) {
    const views = columns.map((alignment) => {
      const cell = element(isHead ? "th" : "td", { dir: "auto", class: alignment && `to-${alignment}` });
      const inline = new InlineView(cell);
      return { cell, show: (text, isGrowing) => inline.show(text, isGrowing) };
    });
    (isHead ? this.#head : this.#body).append(element("tr", {}, ...views.map(({ cell }) => cell)));
    return views;
  }
}

class MathView extends View {
  root = element("div", { class: "formula" });
  #text = null;

  show({ text }) {
    if (text === this.#text) return;
    this.#text = text;
    this.root.replaceChildren(mathElement(text, { isBlock: true }));
  }
}

class CodeView extends View {
  #name;
  #text = "";
  #language = null;
  #lines = []; // `{text, state, root}`; the state is what the line leaves to the next one
  #caption = document.createTextNode("");
  #code = element("code");

  constructor({ language }) {
    super();
    this.#name = language;
    this.#language = languageNamed(language);
    const copy = copyButton({ copy: strings.copyCode, copied: strings.copied }, () => this.#text);
    const caption = element("figcaption", {}, element("span", {}, this.#caption), copy);
    const box = element("pre", { tabIndex: 0, dir: "ltr", role: "region", "aria-label": language || strings.code }, this.#code);
    this.root = element("figure", { class: "code" }, caption, box);
    this.#caption.data = language || strings.code;
  }

  fits({ language }) {
    return language === this.#name;
  }

  show({ text }) {
    if (text === this.#text) return;
    this.#text = text;
    const lines = text.split("\n");
    let first = 0;
    while (first < lines.length - 1 && this.#lines[first]?.text === lines[first]) first++;
    for (const line of this.#lines.splice(first)) line.root.remove();
    const added = lines.slice(first).map((line, index) => this.#newLine(line, first + index < lines.length - 1));
    this.#code.append(...added);
  }

  #newLine(text, hasBreak) {
    const { tokens, state } = highlightLine(this.#language, text, this.#lines.at(-1)?.state ?? null);
    const parts = tokens.map(([kind, part]) => (kind ? element("span", { class: `of-${kind}` }, part) : part));
    const root = element("span", {}, ...parts, ...(hasBreak ? ["\n"] : []));
    // The last line gets its break when another follows, for which it is made anew.
    this.#lines.push({ text: hasBreak ? text : null, state, root });
    return root;
  }
}

const VIEWS = {
  paragraph: ParagraphView,
  heading: HeadingView,
  rule: RuleView,
  quote: QuoteView,
  list: ListView,
  table: TableView,
  math: MathView,
  code: CodeView,
};
