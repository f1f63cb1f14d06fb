// Markdown's block structure: from text to a tree of blocks whose leaves hold text for `inline.js`. Pure.
//
// The language is CommonMark's as models write it, with GitHub's tables and task lists and TeX between `$$`. Left out
// on purpose: HTML, which stays text, and link definitions. Where models are careless we are lenient: a list under a
// numbered item may be indented by two.
//
// `GrowingBlocks` reads a text that grows. Blocks end where lines say so, so only the last one can still change, and
// the one before it while the last line is not whole (a "-" may become the rule that makes a heading of it). All
// earlier ones are settled: they keep their identity, and nobody needs to look at them again.

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}>[ ]?/;
const ITEM = /^( *)([-*+•]|\d{1,9}[.)])(?:([ \t]+)(.*)|)$/;
const TASK = /^\[([ xX])\][ \t]+/;
const SETEXT = /^ {0,3}(=+|-+)[ \t]*$/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const MATH = /^ {0,3}(\$\$|\\\[)(.*)$/;
const INDENTED = /^(?: {4}|\t)/;
const MAYBE_FENCE = /^\s*(`{1,2}|~{1,2})$/;
const MAX_DEPTH = 24; // nobody means more, and a hostile text may hold thousands
const MAX_COLUMNS = 100;

/**
 * Return the blocks of `text`: paragraph and heading `{text}`, code and math `{text}`, quote `{children}`, list
 * `{isOrdered, start, isTight, items: [{children, isChecked}]}`, table `{columns, head, rows}`, rule.
 * `isGrowing` says that more text may come.
 */
export function parseBlocks(text, { isGrowing = false } = {}) {
  return new Reader(linesOf(text, isGrowing), isGrowing, 0).blocks();
}

export class GrowingBlocks {
  #text = "";
  #settled = [];
  #settledLength = 0;

  /** Take the whole text so far, which begins with the one before; return its blocks. */
  read(text, { isGrowing = true } = {}) {
    if (!text.startsWith(this.#text)) {
      this.#settled = [];
      this.#settledLength = 0;
    }
    this.#text = text;
    const rest = text.slice(this.#settledLength);
    const reader = new Reader(linesOf(rest, isGrowing), isGrowing, 0);
    const open = reader.blocks();
    const keeps = Math.max(0, open.length - 2);
    const blocks = [...this.#settled, ...open];
    if (keeps > 0) {
      this.#settled.push(...open.slice(0, keeps));
      this.#settledLength += reader.offsetOf(keeps);
    }
    return blocks;
  }
}

function linesOf(text, isGrowing) {
  const lines = text.split("\n");
  if (isGrowing && MAYBE_FENCE.test(lines.at(-1))) lines.pop();
  return lines;
}

class Reader {
  #lines;
  #isGrowing;
  #depth;
  #index = 0;
  #starts = [];

  constructor(lines, isGrowing, depth) {
    this.#lines = lines;
    this.#isGrowing = isGrowing;
    this.#depth = depth;
  }

  blocks() {
    const blocks = [];
    while (this.#index < this.#lines.length) {
      if (isBlank(this.#line)) this.#index++;
      else {
        this.#starts.push(this.#index);
        blocks.push(this.#block());
      }
    }
    return blocks;
  }

  /** How many characters stand before the block with this number. */
  offsetOf(number) {
    return this.#lines.slice(0, this.#starts[number]).reduce((sum, line) => sum + line.length + 1, 0);
  }

  get #line() {
    return this.#lines[this.#index];
  }

  #block() {
    const line = this.#line;
    const fence = FENCE.exec(line);
    if (fence) return this.#code(fence);
    const math = MATH.exec(line);
    if (math) return this.#math(math) ?? this.#paragraph();
    const heading = HEADING.exec(line);
    if (heading) {
      this.#index++;
      return { kind: "heading", level: heading[1].length, text: heading[2] ?? "" };
    }
    if (RULE.test(line)) {
      this.#index++;
      return { kind: "rule" };
    }
    if (this.#depth < MAX_DEPTH) {
      if (QUOTE.test(line)) return this.#quote();
      if (ITEM.test(line) && !INDENTED.test(line)) return this.#list();
    }
    if (INDENTED.test(line)) return this.#indentedCode();
    if (this.#isTable()) return this.#table();
    return this.#paragraph();
  }

  #code([, indent, fence, info]) {
    const start = ++this.#index;
    while (this.#index < this.#lines.length && !isClosing(this.#line, fence)) this.#index++;
    const lines = this.#lines.slice(start, this.#index).map((line) => withoutIndent(line, indent.length));
    const isClosed = this.#index < this.#lines.length;
    this.#index++;
    // The line break before a fence that is still to come is not a line of code.
    if (!isClosed && lines.at(-1) === "") lines.pop();
    const isWhole = !this.#isGrowing || this.#lines.length > start;
    return { kind: "code", text: lines.join("\n"), language: isWhole ? info.trim().split(/\s/)[0] : "" };
  }

  #indentedCode() {
    const start = this.#index;
    let end = start;
    for (; this.#index < this.#lines.length; this.#index++) {
      if (INDENTED.test(this.#line)) end = this.#index + 1;
      else if (!isBlank(this.#line)) break;
    }
    this.#index = end;
    const lines = this.#lines.slice(start, end).map((line) => line.replace(INDENTED, ""));
    return { kind: "code", text: lines.join("\n"), language: "" };
  }

  #math([, opening, rest]) {
    const closing = opening === "$$" ? "$$" : "\\]";
    const lines = [];
    for (let index = this.#index, line = rest; ; line = this.#lines[index]) {
      const end = line.indexOf(closing);
      if (end >= 0) {
        if (!isBlank(line.slice(end + closing.length))) return null; // words follow: a formula within a paragraph
        this.#index = index + 1;
        return { kind: "math", text: [...lines, line.slice(0, end)].join("\n").trim() };
      }
      lines.push(line);
      if (++index >= this.#lines.length || isBlank(this.#lines[index])) return null;
    }
  }

  #quote() {
    const lines = [];
    for (; this.#index < this.#lines.length; this.#index++) {
      const line = this.#line;
      if (QUOTE.test(line)) lines.push(line.replace(QUOTE, ""));
      else if (isBlank(line) || isBlank(lines.at(-1)) || interrupts(line)) break;
      else lines.push(line); // a quoted paragraph may go on without its mark
    }
    return { kind: "quote", children: this.#inside(lines) };
  }

  #list() {
    const [, , firstMark] = ITEM.exec(this.#line);
    const isOrdered = /\d/.test(firstMark);
    const type = firstMark.at(-1);
    const items = [];
    let isTight = true;
    while (this.#index < this.#lines.length) {
      const match = RULE.test(this.#line) ? null : ITEM.exec(this.#line);
      if (!match || match[2].at(-1) !== type || match[1].length > 3) break;
      const { lines, hasGap } = this.#item(match);
      const task = TASK.exec(lines[0]);
      if (task) lines[0] = lines[0].slice(task[0].length);
      const children = this.#inside(lines);
      // A gap before the next item loosens the list, one after the last item doesn't.
      const endsLoose = hasGap && this.#index < this.#lines.length && this.#isItemOf(type);
      if (endsLoose || (children.length > 1 && hasGapBetween(lines))) isTight = false;
      items.push({ children, isChecked: task ? task[1] !== " " : null });
    }
    return { kind: "list", isOrdered, start: isOrdered ? parseInt(firstMark, 10) : 1, isTight, items };
  }

  #isItemOf(type) {
    const match = ITEM.exec(this.#line);
    return match !== null && match[2].at(-1) === type && match[1].length <= 3 && !RULE.test(this.#line);
  }

  /** The lines of one item without their indent; `hasGap`: it ended with a blank line. */
  #item([, indent, mark, space = "", first = ""]) {
    const width = space.length > 4 || space === "" ? 1 : space.length;
    const contentIndent = indent.length + mark.length + width;
    const lines = [space.length > 4 ? space.slice(1) + first : first];
    let fence = null;
    let hasGap = false;
    const open = (line) => (fence = fence ? (isClosing(line, fence) ? null : fence) : (FENCE.exec(line)?.[2] ?? null));
    open(lines[0]);
    for (this.#index++; this.#index < this.#lines.length; this.#index++) {
      const line = this.#line;
      const lineIndent = indentOf(line);
      if (isBlank(line)) {
        hasGap = true;
        lines.push("");
        continue;
      }
      const isNested = lineIndent >= indent.length + 2 && ITEM.test(line);
      if (lineIndent < contentIndent && !isNested && !fence) {
        if (hasGap || interrupts(line) || ITEM.test(line) || this.#depth >= MAX_DEPTH - 1) break;
      }
      hasGap = false;
      lines.push(withoutIndent(line, contentIndent));
      open(lines.at(-1));
    }
    while (lines.length > 1 && isBlank(lines.at(-1))) lines.pop();
    return { lines, hasGap };
  }

  #isTable() {
    const line = this.#line;
    if (!line.includes("|")) return false;
    const next = this.#lines[this.#index + 1];
    // A row at the very end may be the head of a table whose next line has yet to come.
    if (this.#isGrowing && line.trimStart().startsWith("|")) {
      if (next === undefined) return line.trimEnd().length > 1;
      if (this.#index + 2 === this.#lines.length && /^[\s|:-]*$/.test(next)) return true;
    }
    if (next === undefined || !DELIMITERS.test(next)) return false;
    return cellsOf(line).length === cellsOf(next).length && cellsOf(line).length <= MAX_COLUMNS;
  }

  #table() {
    const head = cellsOf(this.#line).slice(0, MAX_COLUMNS);
    const marks = cellsOf(this.#lines[this.#index + 1] ?? "");
    const columns = head.map((_, column) => alignmentOf(marks[column] ?? ""));
    const rows = [];
    for (this.#index += 2; this.#index < this.#lines.length; this.#index++) {
      if (isBlank(this.#line) || interrupts(this.#line)) break;
      const cells = cellsOf(this.#line);
      rows.push(head.map((_, column) => cells[column] ?? ""));
    }
    return { kind: "table", columns, head, rows };
  }

  #paragraph() {
    const lines = [this.#line.trim()];
    for (this.#index++; this.#index < this.#lines.length; this.#index++) {
      const line = this.#line;
      if (isBlank(line)) break;
      const setext = SETEXT.exec(line);
      if (setext) {
        this.#index++;
        return { kind: "heading", level: setext[1][0] === "=" ? 1 : 2, text: lines.join("\n") };
      }
      if (interrupts(line) || this.#isTable()) break;
      lines.push(line.trim());
    }
    return { kind: "paragraph", text: lines.join("\n").trimEnd() };
  }

  #inside(lines) {
    return new Reader(lines, this.#isGrowing && this.#index >= this.#lines.length, this.#depth + 1).blocks();
  }
}

/** True for a line that ends a paragraph. Of ordered lists only one that begins with 1 does: "in\n1984. That was". */
function interrupts(line) {
  if (FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line)) return true;
  if (/^ {0,3}(\$\$|\\\[)/.test(line)) return true;
  const item = ITEM.exec(line);
  return item !== null && item[1].length <= 3 && Boolean(item[4]) && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1);
}

function isBlank(line) {
  return line.trim() === "";
}

function hasGapBetween(lines) {
  return lines.includes("");
}

function isClosing(line, fence) {
  const mark = line.trim();
  return mark.length >= fence.length && mark === fence[0].repeat(mark.length);
}

function indentOf(line) {
  let width = 0;
  for (const character of line) {
    if (character === " ") width++;
    else if (character === "\t") width += 4 - (width % 4);
    else break;
  }
  return width;
}

function withoutIndent(line, width) {
  let taken = 0;
  while (taken < line.length && taken < width && line[taken] === " ") taken++;
  return line[taken] === "\t" && taken < width ? line.slice(taken + 1) : line.slice(taken);
}

function cellsOf(line) {
  const row = line.trim().replace(/^\|/, "");
  const cells = [];
  let cell = "";
  let isCode = false;
  for (let i = 0; i < row.length; i++) {
    if (row[i] === "\\" && row[i + 1] === "|") cell += row[++i];
    else if (row[i] === "|" && !isCode) {
      cells.push(cell.trim());
      cell = "";
    } else {
      if (row[i] === "`" && (isCode || row.indexOf("`", i + 1) > 0)) isCode = !isCode;
      cell += row[i];
    }
  }
  if (cell.trim() !== "") cells.push(cell.trim());
  return cells;
}

function alignmentOf(mark) {
  if (!mark.endsWith(":")) return mark.startsWith(":") ? "start" : "";
  return mark.startsWith(":") ? "center" : "end";
}
