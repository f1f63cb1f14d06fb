// What a page shows: its operators are run as far as they place texts (ISO 32000-1, 8.3, 9.3, 9.4).

import { readFont } from "./fonts.js";
import { valuesIn } from "./syntax.js";

const IDENTITY = [1, 0, 0, 1, 0, 0];
const START = { matrix: IDENTITY, text: IDENTITY, line: IDENTITY, size: 1, spacing: 0, wordSpacing: 0, stretch: 1, leading: 0 };
const MAX_DEPTH = 10; // of forms within each other, and of a page in its tree
const MAX_WORK = 300_000_000; // bytes to be read in a file; some are made to keep a reader busy

/** What operators change, in the state `s`, where nothing is drawn. */
const OPERATORS = new Map(
  Object.entries({
    cm: (s, ...matrix) => ({ matrix: times(matrix, s.matrix) }),
    BT: () => ({ text: IDENTITY, line: IDENTITY }),
    Tm: (_, ...line) => ({ text: line, line }),
    Td: moved,
    TD: (s, x, y) => ({ ...moved(s, x, y), leading: -y }),
    "T*": nextLine,
    "'": nextLine,
    '"': (s, wordSpacing, spacing) => ({ ...nextLine(s), wordSpacing, spacing }),
    TL: (_, leading) => ({ leading }),
    Tc: (_, spacing) => ({ spacing }),
    Tw: (_, wordSpacing) => ({ wordSpacing }),
    Tz: (_, percent) => ({ stretch: percent / 100 }),
  }),
);

export class PageReader {
  #file;
  #fonts = new Map(); // by dictionary
  #work = 0;
  #pieces = [];

  constructor(file) {
    this.#file = file;
  }

  /**
   * Return a page's texts in the order in which they are drawn, `{text, along, end, up, size, angle}`: where each begins
   * and ends along its own direction, and how far up its line is, in the page's units.
   */
  async read(page) {
    const file = this.#file;
    let owner = page;
    for (let steps = 0; owner && !file.get(owner, "Resources") && steps < MAX_DEPTH; steps++) owner = file.get(owner, "Parent");
    const parts = [];
    for (const stream of file.list(page, "Contents")) parts.push(await file.stream(stream));
    this.#pieces = [];
    await this.#run(parts.join("\n"), file.get(owner, "Resources"), START, 0);
    return this.#pieces;
  }

  async #run(source, resources, start, depth) {
    this.#work += source.length;
    if (this.#work > MAX_WORK) return;
    const state = { ...start };
    const saved = [];
    let operands = [];
    for (const value of valuesIn(source)) {
      if (!value.word) {
        operands.push(value);
        continue;
      }
      const { word } = value;
      const [first] = operands;
      Object.assign(state, OPERATORS.get(word)?.(state, ...operands.slice(0, 6)));
      if (word === "q") saved.push({ ...state });
      else if (word === "Q") Object.assign(state, saved.pop());
      else if (word === "Tf") Object.assign(state, { font: await this.#font(resources, first), size: operands[1] });
      else if (word === "Do") await this.#draw(this.#file.get(resources, "XObject", first), resources, state, depth);
      else if (word === "TJ") this.#show(state, first);
      else if (/^(?:Tj|'|")$/.test(word)) this.#show(state, operands.slice(-1));
      operands = [];
    }
  }

  async #font(resources, name) {
    const dictionary = this.#file.get(resources, "Font", name);
    if (!this.#fonts.has(dictionary)) this.#fonts.set(dictionary, await readFont(this.#file, dictionary));
    return this.#fonts.get(dictionary);
  }

  async #draw(object, resources, state, depth) {
    if (this.#file.get(object, "Subtype") !== "Form" || depth === MAX_DEPTH) return;
    const matrix = this.#file.get(object, "Matrix") ?? IDENTITY;
    const inside = { ...state, matrix: times(matrix, state.matrix) };
    await this.#run(await this.#file.stream(object), this.#file.get(object, "Resources") ?? resources, inside, depth + 1);
  }

  /** Draw strings, with numbers between them that move the next one to the left. */
  #show(s, parts) {
    if (!s.font || !Array.isArray(parts)) return;
    for (const part of parts) {
      if (typeof part === "number") advance(s, (-part / 1000) * s.size);
      if (part?.bytes === undefined) continue;
      const begin = times(s.text, s.matrix);
      let text = "";
      for (const glyph of s.font(part.bytes)) {
        text += glyph.text;
        advance(s, glyph.width * s.size + s.spacing + (glyph.isSpace ? s.wordSpacing : 0));
      }
      const piece = placed(text, begin, times(s.text, s.matrix), s.size);
      if (text !== "" && Number.isFinite(piece.along + piece.end + piece.up + piece.size)) this.#pieces.push(piece);
    }
  }
}

function moved({ line }, x, y) {
  const next = times([1, 0, 0, 1, x, y], line);
  return { text: next, line: next };
}

function nextLine(s) {
  return moved(s, 0, -s.leading);
}

function advance(state, distance) {
  state.text = times([1, 0, 0, 1, distance * state.stretch, 0], state.text);
}

/** A text with where it stands, in a frame that is turned as the text is. */
function placed(text, begin, end, size) {
  const angle = Math.atan2(begin[1], begin[0]);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const along = ([, , , , x, y]) => x * cos + y * sin;
  const height = Math.abs(size * Math.hypot(begin[2], begin[3])) || 1;
  return { text, along: along(begin), end: along(end), up: begin[5] * cos - begin[4] * sin, size: height, angle };
}

function times([a, b, c, d, e, f], [g, h, i, j, k, l]) {
  return [a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + l];
}
