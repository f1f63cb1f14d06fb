// What stands inside a paragraph: emphasis, code, links, line breaks, formulas. Pure.
//
// Emphasis follows CommonMark's algorithm (https://spec.commonmark.org/0.31.2/#phase-2-inline-structure). Links go to
// http, https and mailto addresses and nowhere else; pictures become links, for the page fetches nothing from elsewhere.
// Every step is linear in the text's length, and there are limits where it would not be.

const PUNCTUATION = /[\p{P}\p{S}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const DESTINATION = /\([ \t\n]*(<[^<>\n]*>|[^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)(?:[ \t\n]+(?:"[^"]*"|'[^']*'))?[ \t\n]*\)/y;
const PARTIAL_DESTINATION = /\([^\s()]*$/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]*)>/iy;
const BARE_LINK = /https?:\/\/[^\s<>"'`]+/iy;
const BREAK = /<br[ \t]*\/?>/iy;
const ENTITY = /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,6}));/iy;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", hellip: "…", mdash: "—", ndash: "–" };
const PLAIN = /[^\\`*_~[\]!<&\n$h]+/y;
const MAX_MARKS = 3000;
const MAX_FORMULA = 2000;
const MAX_OPEN_BRACKETS = 200;

/**
 * Return a list of texts and nodes: strong, emphasis, deleted `{children}`, code and math `{text}`, link `{address,
 * children}`, break. While `isGrowing`, bold and code that are still open count as closed at the end.
 */
export function parseInline(text, { isGrowing = false } = {}) {
  return new InlineReader(text, isGrowing).nodes();
}

export function safeAddress(address) {
  return /^(?:https?:\/\/|mailto:)[^\s]/i.test(address) ? address : null;
}

class InlineReader {
  #text;
  #isGrowing;
  #at = 0;
  #out = []; // texts, nodes, and marks `{mark, count, canOpen, canClose}`
  #brackets = []; // open ones: `{index, isImage}` into #out
  #numMarks = 0;
  #codeRuns = null;

  constructor(text, isGrowing) {
    this.#text = text;
    this.#isGrowing = isGrowing;
  }

  nodes() {
    while (this.#at < this.#text.length) this.#step();
    return resolved(this.#out, this.#isGrowing);
  }

  #step() {
    const plain = this.#match(PLAIN);
    if (plain) return this.#push(plain[0]);
    const character = this.#text[this.#at];
    switch (character) {
      case "\\":
        return this.#escape();
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#mark(character);
      case "[":
        return this.#openBracket(false);
      case "!":
        if (this.#text[this.#at + 1] === "[") return this.#openBracket(true);
        break;
      case "]":
        return this.#closeBracket();
      case "<":
        return this.#angle();
      case "&":
        return this.#entity();
      case "$":
        return this.#dollar();
      case "\n":
        return this.#lineBreak();
      case "h": {
        const isWordStart = !/[\p{L}\p{N}]/u.test(this.#text[this.#at - 1] ?? "");
        const link = isWordStart && this.#brackets.length === 0 ? this.#match(BARE_LINK) : null;
        if (link) return this.#bareLink(link[0]);
      }
    }
    this.#at++;
    this.#push(character);
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match) this.#at += match[0].length;
    return match;
  }

  #push(text) {
    if (text === "") return;
    const last = this.#out.length - 1;
    if (typeof this.#out[last] === "string" && this.#brackets.at(-1)?.index !== last) this.#out[last] += text;
    else this.#out.push(text);
  }

  #escape() {
    const next = this.#text[this.#at + 1] ?? "";
    if (next === "(" || next === "[") {
      const closing = next === "(" ? "\\)" : "\\]";
      const start = this.#at + 2;
      const end = start + this.#text.slice(start, start + MAX_FORMULA).indexOf(closing);
      if (end > start) {
        this.#out.push({ kind: "math", text: this.#text.slice(start, end).trim() });
        this.#at = end + 2;
        return;
      }
    }
    if (next === "\n") {
      this.#at += 2;
      this.#out.push({ kind: "break" });
    } else if (ESCAPABLE.test(next)) {
      this.#at += 2;
      this.#push(next);
    } else {
      this.#at++;
      this.#push("\\");
    }
  }

  #code() {
    const start = this.#at;
    const length = runLength(this.#text, start, "`");
    const contentStart = start + length;
    let end = this.#closingRun(length, contentStart);
    if (end < 0) {
      if (!this.#isGrowing) {
        this.#at = contentStart;
        return this.#push("`".repeat(length));
      }
      end = this.#text.length;
      this.#at = end;
    } else this.#at = end + length;
    let text = this.#text.slice(contentStart, end).replace(/\n/g, " ");
    if (/^ .*[^ ].* $/.test(text)) text = text.slice(1, -1);
    if (text !== "") this.#out.push({ kind: "code", text });
  }

  /** Where the next run of exactly `length` backticks begins; all runs are looked up once. */
  #closingRun(length, from) {
    if (this.#codeRuns === null) {
      this.#codeRuns = new Map();
      for (const run of this.#text.matchAll(/`+/g)) {
        const positions = this.#codeRuns.get(run[0].length) ?? { list: [], next: 0 };
        positions.list.push(run.index);
        this.#codeRuns.set(run[0].length, positions);
      }
    }
    const positions = this.#codeRuns.get(length);
    if (!positions) return -1;
    while (positions.list[positions.next] < from) positions.next++;
    return positions.list[positions.next] ?? -1;
  }

  #mark(character) {
    const start = this.#at;
    const count = runLength(this.#text, start, character);
    this.#at += count;
    const before = start === 0 ? " " : characterBefore(this.#text, start);
    const after = this.#text[this.#at] === undefined ? " " : String.fromCodePoint(this.#text.codePointAt(this.#at));
    const isLeft = !/\s/.test(after) && (!PUNCTUATION.test(after) || /\s/.test(before) || PUNCTUATION.test(before));
    const isRight = !/\s/.test(before) && (!PUNCTUATION.test(before) || /\s/.test(after) || PUNCTUATION.test(after));
    const isWordy = character === "_";
    let canOpen = isLeft && (!isWordy || !isRight || PUNCTUATION.test(before));
    let canClose = isRight && (!isWordy || !isLeft || PUNCTUATION.test(after));
    // Models write **this:**and that, and languages without spaces always do; CommonMark would show the stars.
    if (character === "*" && count === 2) [canOpen, canClose] = [!/\s/.test(after), !/\s/.test(before)];
    // One "~" is a word's own; only two are a mark.
    const isMark = (canOpen || canClose) && ++this.#numMarks <= MAX_MARKS && (character !== "~" || count === 2);
    if (isMark) this.#out.push({ mark: character, count, canOpen, canClose, numBefore: count });
    else if (this.#isGrowing && this.#at === this.#text.length && character !== "_")
      return; // it may open something
    else this.#push(character.repeat(count));
  }

  #openBracket(isImage) {
    const text = isImage ? "![" : "[";
    this.#at += text.length;
    if (this.#brackets.length >= MAX_OPEN_BRACKETS) return this.#push(text);
    this.#out.push(text);
    this.#brackets.push({ index: this.#out.length - 1, isImage });
  }

  #closeBracket() {
    this.#at++;
    const opening = this.#brackets.pop();
    if (!opening) return this.#push("]");
    const match = this.#match(DESTINATION);
    const isPartial = !match && this.#isGrowing && this.#match(PARTIAL_DESTINATION) !== null;
    if (!match && !isPartial) return this.#push("]");
    const address = match ? safeAddress(match[1].replace(/^<|>$/g, "").replace(/\\([!-/:-@[-`{-~])/g, "$1")) : null;
    const children = resolved(this.#out.splice(opening.index).slice(1), false);
    if (address === null) {
      this.#out.push(...children);
      return;
    }
    this.#out.push({ kind: "link", address, children: children.length > 0 ? children : [address] });
    if (!opening.isImage) this.#brackets = []; // links don't hold links
  }

  #angle() {
    const link = this.#match(AUTOLINK);
    if (link) this.#out.push({ kind: "link", address: link[1], children: [link[1]] });
    else if (this.#match(BREAK)) this.#out.push({ kind: "break" });
    else {
      this.#at++;
      this.#push("<");
    }
  }

  #entity() {
    const match = this.#match(ENTITY);
    if (!match) {
      this.#at++;
      return this.#push("&");
    }
    const [whole, decimal, hexadecimal, name] = match;
    const code = decimal ? parseInt(decimal, 10) : hexadecimal ? parseInt(hexadecimal, 16) : null;
    if (code === null) this.#push(ENTITIES[name.toLowerCase()] ?? whole);
    else this.#push(code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd");
  }

  /** `$x$` is a formula when nothing speaks for money: no space inside the signs, no digit after them. */
  #dollar() {
    const sign = this.#text[this.#at + 1] === "$" ? "$$" : "$";
    const start = this.#at + sign.length;
    const end = this.#text.indexOf(sign, start);
    const text = end < 0 || end - start > MAX_FORMULA ? "" : this.#text.slice(start, end);
    const isFormula = text.trim() !== "" && (sign === "$$" || isInlineFormula(text, this.#text[end + 1] ?? ""));
    if (isFormula) {
      this.#out.push({ kind: "math", text: text.trim() });
      this.#at = end + sign.length;
    } else {
      this.#push(sign);
      this.#at = start;
    }
  }

  #lineBreak() {
    this.#at++;
    // Models end lines where they want them to end: a poem, an address.
    this.#out.push({ kind: "break" });
  }

  #bareLink(text) {
    // A full stop or a bracket after an address belongs to the sentence.
    let end = text.length;
    while (/[.,;:!?*_~\])}]/.test(text[end - 1]) && !(text[end - 1] === ")" && text.slice(0, end).includes("("))) end--;
    const address = text.slice(0, end);
    this.#at -= text.length - end;
    this.#out.push({ kind: "link", address, children: [address] });
  }
}

function isInlineFormula(text, after) {
  return !/^\s|\s$|\n/.test(text) && !/\d/.test(after);
}

function runLength(text, start, character) {
  let end = start;
  while (text[end] === character) end++;
  return end - start;
}

function characterBefore(text, index) {
  const unit = text.charCodeAt(index - 1);
  return unit >= 0xdc00 && unit <= 0xdfff ? text.slice(index - 2, index) : text[index - 1];
}

/** Pair the marks of emphasis in a list of texts, nodes and marks; return texts and nodes alone. */
function resolved(parts, isGrowing) {
  // A stack of what is open; a closing mark folds everything above its opening into a node.
  const stack = [{ mark: null, children: [] }];
  const fold = (depth) => {
    while (stack.length > depth) {
      const { mark, count, children } = stack.pop();
      stack.at(-1).children.push(mark.repeat(count), ...children);
    }
  };
  const openings = new Map(); // how many of each kind are open, so that a hopeless close costs nothing
  for (const part of parts) {
    if (typeof part === "string" || part.kind) {
      stack.at(-1).children.push(part);
      continue;
    }
    let left = part.count;
    while (part.canClose && left > 0 && openings.get(part.mark) > 0) {
      const depth = findOpening(stack, part, left);
      if (depth < 0) break;
      for (let open = depth + 1; open < stack.length; open++) countDown(openings, stack[open].mark);
      fold(depth + 1);
      const top = stack.pop();
      const used = part.mark === "~" || (left >= 2 && top.count >= 2) ? 2 : 1;
      const kind = part.mark === "~" ? "deleted" : used === 2 ? "strong" : "emphasis";
      const node = { kind, children: merged(top.children) };
      if (top.count > used) stack.push({ ...top, count: top.count - used, children: [node] });
      else {
        countDown(openings, top.mark);
        stack.at(-1).children.push(node);
      }
      left -= used;
    }
    if (left === 0) continue;
    if (part.canOpen) {
      stack.push({ ...part, count: left, children: [] });
      openings.set(part.mark, (openings.get(part.mark) ?? 0) + 1);
    } else stack.at(-1).children.push(part.mark.repeat(left));
  }
  if (isGrowing) closeOpenEnds(stack);
  fold(1);
  return merged(stack[0].children);
}

function findOpening(stack, { mark, canOpen, numBefore }, left) {
  for (let depth = stack.length - 1; depth > 0; depth--) {
    const open = stack[depth];
    if (open.mark !== mark) continue;
    // CommonMark's rule of three keeps `**a*b**` whole.
    const isOdd = (canOpen || open.canClose) && (open.numBefore + numBefore) % 3 === 0;
    if (isOdd && !(open.numBefore % 3 === 0 && numBefore % 3 === 0)) continue;
    if (mark === "~" && (open.count !== 2 || left !== 2)) continue;
    return depth;
  }
  return -1;
}

function countDown(openings, mark) {
  openings.set(mark, openings.get(mark) - 1);
}

/** Bold that began and has not ended yet is bold, and a mark at the very end is not shown before it is sure. */
function closeOpenEnds(stack) {
  while (stack.length > 1 && stack.at(-1).children.length === 0) stack.pop();
  while (stack.length > 1 && stack.at(-1).mark !== "~" && stack.at(-1).count === 2) {
    const { children } = stack.pop();
    stack.at(-1).children.push({ kind: "strong", children: merged(children) });
  }
}

/** Texts side by side become one. */
function merged(nodes) {
  const list = [];
  for (const node of nodes) {
    if (typeof node === "string" && typeof list.at(-1) === "string") list[list.length - 1] += node;
    else list.push(node);
  }
  return list;
}
