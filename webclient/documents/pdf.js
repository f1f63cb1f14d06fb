// The text of a PDF: enough of the format for documents that programs wrote. Scans hold no text, and encrypted files
// and the rarer filters are left alone: then there is no text, and the reader is told so.
//
// After ISO 32000-1: objects (7.3), streams and Flate (7.3.8, 7.4.4), object streams (7.5.7), ToUnicode maps (9.10.3),
// text operators (9.4). Objects are found by looking for "N G obj" instead of by the cross-reference table, which
// broken files have wrong more often than not.

const MAX_PAGES = 2000;

/** Return the text, a blank line between pages. */
export async function pdfText(bytes) {
  const pdf = new Pdf(bytes);
  await pdf.open();
  const pages = [];
  for (const page of pdf.pages().slice(0, MAX_PAGES)) pages.push(await pdf.textOfPage(page));
  return pages
    .map((page) => page.trim())
    .filter(Boolean)
    .join("\n\n");
}

/** Bytes as text with a character for each byte. */
function latin(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  return text;
}

class Pdf {
  #bytes;
  #text;
  #objects = new Map(); // number → `{source, start}`: its text, and where its stream would begin in the file
  #fonts = new Map();

  constructor(bytes) {
    this.#bytes = bytes;
    this.#text = latin(bytes);
  }

  async open() {
    const pattern = /(?:^|[\s>])(\d+)\s+\d+\s+obj\b/g;
    const found = [...this.#text.matchAll(pattern)];
    found.forEach((match, index) => {
      const start = match.index + match[0].length;
      const limit = found[index + 1]?.index ?? this.#text.length;
      const stream = this.#text.indexOf("stream", start);
      const isStream = stream >= 0 && stream < limit && /stream\r?\n/.test(this.#text.slice(stream, stream + 8));
      const source = this.#text.slice(start, isStream ? stream : limit);
      this.#objects.set(Number(match[1]), { source, start: isStream ? stream : null });
    });
    if (/\/Encrypt\s+\d/.test(this.#text)) this.#objects.clear();
    for (const [, object] of [...this.#objects]) {
      if (/\/Type\s*\/ObjStm/.test(object.source)) await this.#unpack(object);
    }
  }

  pages() {
    const found = [...this.#objects.values()].filter(({ source }) => /\/Type\s*\/Page\b(?!s)/.test(source));
    const ordered = this.#inOrder();
    return ordered.length > 0 ? ordered : found;
  }

  /** Pages in the order of the page tree. */
  #inOrder() {
    const catalog = [...this.#objects.values()].find(({ source }) => /\/Type\s*\/Catalog/.test(source));
    const pages = [];
    const seen = new Set();
    const walk = (number) => {
      const object = this.#objects.get(number);
      if (!object || seen.has(number)) return;
      seen.add(number);
      const kids = this.#value(object.source, "Kids");
      if (kids === null) pages.push(object);
      else for (const [, kid] of kids.matchAll(/(\d+)\s+\d+\s+R/g)) walk(Number(kid));
    };
    if (catalog) walk(referenceIn(this.#value(catalog.source, "Pages") ?? ""));
    return pages;
  }

  async textOfPage({ source }) {
    const contents = this.#value(source, "Contents") ?? "";
    const fonts = await this.#fontsOf(source);
    const parts = [];
    for (const [, number] of contents.matchAll(/(\d+)\s+\d+\s+R/g))
      parts.push(latin(await this.#stream(this.#objects.get(Number(number)))));
    return readText(parts.join("\n"), fonts);
  }

  async #fontsOf(page) {
    let resources = this.#dictionary(page, "Resources");
    for (let parent = page, steps = 0; resources === "" && steps < 20; steps++) {
      parent = this.#dictionary(parent, "Parent");
      if (parent === "") break;
      resources = this.#dictionary(parent, "Resources");
    }
    const fonts = new Map();
    for (const [, name, number] of this.#dictionary(resources, "Font").matchAll(/\/([^\s/<>[\]()]+)\s+(\d+)\s+\d+\s+R/g)) {
      if (!this.#fonts.has(number)) this.#fonts.set(number, await this.#font(this.#objects.get(Number(number))?.source ?? ""));
      fonts.set(name, this.#fonts.get(number));
    }
    return fonts;
  }

  async #font(source) {
    const map = referenceIn(this.#value(source, "ToUnicode") ?? "");
    const isWide = /\/Subtype\s*\/Type0/.test(source);
    if (map === null) return { isWide, characters: null };
    return readToUnicode(latin(await this.#stream(this.#objects.get(map))), isWide);
  }

  /** A dictionary's entry as text, a reference followed; "" when absent. */
  #dictionary(source, key) {
    const value = this.#value(source, key) ?? "";
    const number = /^\s*\d+\s+\d+\s+R/.test(value) ? referenceIn(value) : null;
    return number === null ? value : (this.#objects.get(number)?.source ?? "");
  }

  /** The text of a dictionary's entry up to where its value ends. */
  #value(source, key) {
    const match = new RegExp(`/${key}(?![A-Za-z0-9])\\s*`).exec(source);
    if (!match) return null;
    const rest = source.slice(match.index + match[0].length);
    const [open, close] = rest.startsWith("<<") ? ["<<", ">>"] : rest.startsWith("[") ? ["[", "]"] : [null, null];
    if (open === null) return /^\d+\s+\d+\s+R|^[^\s/<>[\]]+|^\/[^\s/<>[\]]+/.exec(rest)?.[0] ?? "";
    let depth = 0;
    for (let at = 0; at < rest.length; at++) {
      if (rest.startsWith(open, at)) {
        depth++;
        at += open.length - 1;
      } else if (rest.startsWith(close, at)) {
        at += close.length - 1;
        if (--depth === 0) return rest.slice(0, at + 1);
      }
    }
    return rest;
  }

  async #unpack(object) {
    const content = latin(await this.#stream(object));
    const first = Number(this.#value(object.source, "First"));
    const numbers = content.slice(0, first).trim().split(/\s+/).map(Number);
    for (let i = 0; i + 1 < numbers.length; i += 2) {
      const end = i + 3 < numbers.length ? first + numbers[i + 3] : content.length;
      this.#objects.set(numbers[i], { source: content.slice(first + numbers[i + 1], end), start: null });
    }
  }

  async #stream(object) {
    if (!object || object.start === null) return new Uint8Array();
    const start = object.start + (this.#text.startsWith("stream\r\n", object.start) ? 8 : 7);
    const given = this.#dictionary(object.source, "Length").trim();
    const length = parseInt(given, 10);
    const isRight = Number.isFinite(length) && /^\s*endstream/.test(this.#text.slice(start + length, start + length + 20));
    const end = isRight ? start + length : this.#text.indexOf("endstream", start);
    const bytes = this.#bytes.subarray(start, end < 0 ? this.#bytes.length : end);
    const filter = this.#value(object.source, "Filter") ?? "";
    if (filter === "") return bytes;
    return /^\[?\s*\/FlateDecode\s*\]?$/.test(filter) && !/\/Predictor\s+[2-9]/.test(object.source) ? inflate(bytes) : new Uint8Array();
  }
}

function referenceIn(text) {
  const match = /(\d+)\s+\d+\s+R/.exec(text);
  return match ? Number(match[1]) : null;
}

/** What can be unpacked; a stream that is cut or followed by a line break gives what came before. */
async function inflate(bytes) {
  const chunks = [];
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  writer.write(bytes).catch(() => {});
  writer.close().catch(() => {});
  const reader = stream.readable.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) chunks.push(part.value);
  } catch {
    // The end is missing or something follows it.
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** A ToUnicode map: from codes to text. */
function readToUnicode(source, isWide) {
  const characters = new Map();
  const text = (hex) => String.fromCharCode(...(hex.match(/.{4}/g) ?? [hex]).map((unit) => parseInt(unit, 16)));
  for (const [, block] of source.matchAll(/beginbfchar([\s\S]*?)endbfchar/g)) {
    for (const [, code, hex] of block.matchAll(/<([\da-fA-F]+)>\s*<([\da-fA-F]+)>/g)) characters.set(parseInt(code, 16), text(hex));
  }
  for (const [, block] of source.matchAll(/beginbfrange([\s\S]*?)endbfrange/g)) {
    const ranges = block.matchAll(/<([\da-fA-F]+)>\s*<([\da-fA-F]+)>\s*(?:<([\da-fA-F]+)>|\[([^\]]*)\])/g);
    for (const [, from, to, hex, list] of ranges) {
      const [low, high] = [parseInt(from, 16), Math.min(parseInt(to, 16), parseInt(from, 16) + 65535)];
      const given = list?.match(/[\da-fA-F]+/g) ?? [];
      for (let code = low; code <= high; code++) {
        if (list !== undefined) characters.set(code, text(given[code - low] ?? ""));
        else characters.set(code, text(hex.slice(0, -4)) + String.fromCharCode(parseInt(hex.slice(-4), 16) + code - low));
      }
    }
  }
  const codes = /begincodespacerange\s*<([\da-fA-F]+)>/.exec(source);
  return { isWide: codes ? codes[1].length > 2 : isWide, characters };
}

const STRING = /\((?:\\[\s\S]|[^\\()])*(?:\((?:\\[\s\S]|[^\\()])*\)(?:\\[\s\S]|[^\\()])*)*\)/;
const OPERATOR = new RegExp(`${STRING.source}|<[\\da-fA-F\\s]*>|/[^\\s/<>[\\]()]+|-?\\d*\\.?\\d+|[[\\]]|[A-Za-z'"*]+`, "g");
const ESCAPES = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };

/** Run the text operators of a page: only what moves to another line or leaves a gap matters of where things stand. */
function readText(source, fonts) {
  let font = { isWide: false, characters: null };
  let operands = [];
  let out = "";
  let y = null;
  const newLine = () => (out = out === "" || out.endsWith("\n") ? out : `${out}\n`);
  for (const [token] of source.matchAll(OPERATOR)) {
    if (!/^[A-Za-z'"*]/.test(token)) {
      operands.push(token);
      continue;
    }
    const numbers = operands.map(Number);
    switch (token) {
      case "Tf":
        font = fonts.get(operands.at(-2)?.slice(1)) ?? { isWide: false, characters: null };
        break;
      case "Td":
      case "TD":
        if (Math.abs(numbers.at(-1)) > 1) newLine();
        else if (numbers.at(-2) > 1 && !/\s$/.test(out)) out += " ";
        break;
      case "Tm":
        if (y !== null && Math.abs(numbers.at(-1) - y) > 1) newLine();
        else if (y !== null && !/\s$/.test(out)) out += " ";
        y = numbers.at(-1);
        break;
      case "T*":
        newLine();
        break;
      case "'":
      case '"':
        newLine();
        out += decoded(operands.at(-1) ?? "", font);
        break;
      case "Tj":
        out += decoded(operands.at(-1) ?? "", font);
        break;
      case "TJ":
        for (const operand of operands) {
          if (operand[0] === "(" || operand[0] === "<") out += decoded(operand, font);
          else if (Number(operand) < -180 && !/\s$/.test(out)) out += " ";
        }
        break;
    }
    operands = [];
  }
  return out.replace(/[^\S\n]+/g, " ").replace(/ *\n */g, "\n");
}

function decoded(operand, { isWide, characters }) {
  const codes = operand[0] === "<" ? hexCodes(operand) : textCodes(operand);
  if (isWide) {
    const wide = [];
    for (let i = 0; i + 1 < codes.length; i += 2) wide.push(codes[i] * 256 + codes[i + 1]);
    return wide.map((code) => characters?.get(code) ?? "").join("");
  }
  const plain = (code) => new TextDecoder("windows-1252").decode(Uint8Array.of(code));
  return codes.map((code) => characters?.get(code) ?? plain(code)).join("");
}

function hexCodes(operand) {
  const digits = operand.replace(/[^\da-fA-F]/g, "");
  return (digits.length % 2 ? `${digits}0` : digits).match(/../g)?.map((pair) => parseInt(pair, 16)) ?? [];
}

function textCodes(operand) {
  const text = operand
    .slice(1, -1)
    .replace(/\\(?:([0-7]{1,3})|\r?\n|([\s\S]))/g, (_, octal, character = "") =>
      octal ? String.fromCharCode(parseInt(octal, 8) & 255) : (ESCAPES[character] ?? character),
    );
  return [...text].map((character) => character.charCodeAt(0));
}
