// Writes PDFs as programs do: enough of them to test what is read. Bytes are texts with a character for each.

import { deflateSync } from "node:zlib";

const HELVETICA = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>";

export class Writer {
  #objects = []; // texts, the one of number n at n − 1
  #pages = [];
  #tree;
  #resources;

  constructor({ resources = "" } = {}) {
    this.#tree = this.add("");
    this.#resources = resources;
    this.helvetica = this.add(HELVETICA);
  }

  /** Add an object; returns its number. */
  add(body) {
    this.#objects.push(body);
    return this.#objects.length;
  }

  /** Add a stream; `entries` are more of its dictionary. */
  stream(data, entries = "") {
    return this.add(`<<${entries}/Length ${data.length}>>\nstream\n${data}\nendstream`);
  }

  flate(data, entries = "") {
    return this.stream(deflated(data), `/Filter/FlateDecode${entries}`);
  }

  /** Add a page with a content, given or as the number of its stream; `fonts` are numbers by name. */
  page(content, { fonts = {}, xObjects = {}, entries = "" } = {}) {
    const stream = typeof content === "number" ? content : this.flate(content);
    const references = (numbers) => Object.entries(numbers).map(([name, number]) => `/${name} ${number} 0 R`);
    const font = `/Font<<${references({ F1: this.helvetica, ...fonts }).join("")}>>`;
    const resources = this.#resources || `/Resources<<${font}/XObject<<${references(xObjects).join("")}>>>>`;
    const page = this.add(`<</Type/Page/Parent ${this.#tree} 0 R/MediaBox[0 0 612 792]${resources}/Contents ${stream} 0 R${entries}>>`);
    this.#pages.push(page);
    return page;
  }

  /** The file with a table of references; `trailer` are more of its trailer's entries. */
  file(trailer = "") {
    const catalog = this.#finish();
    const [body, places] = written(this.#objects.map((object, index) => [index + 1, object]));
    return toBytes(`${body}${table(body.length, places, `/Size ${places.length + 1}/Root ${catalog} 0 R${trailer}`)}`);
  }

  /** The file as newer programs write it: what is no stream in an object stream, references in a stream, too. */
  packedFile() {
    const catalog = this.#finish();
    const isStream = (object) => object.includes("stream\n");
    const numbers = [...this.#objects.keys()].map((index) => index + 1);
    const packed = numbers.filter((number) => !isStream(this.#objects[number - 1]));
    const bodies = packed.map((number) => this.#objects[number - 1]);
    let offset = 0;
    const heads = packed.map((number, index) => {
      const head = `${number} ${offset}`;
      offset += bodies[index].length + 1;
      return head;
    });
    const first = `${heads.join(" ")}\n`;
    const entries = `/Type/ObjStm/N ${packed.length}/First ${first.length}/Filter/FlateDecode`;
    const container = this.stream(deflated(`${first}${bodies.join("\n")}`), entries);
    const streams = [...numbers.filter((number) => !packed.includes(number)), container];
    const [body] = written(streams.map((number) => [number, this.#objects[number - 1]]));
    // Rows of three bytes, predicted from the row above, as nearly all programs write them. Nothing reads their numbers.
    const rows = predicted("\x01\0\x10".repeat(this.#objects.length), 3, 2);
    const dictionary = `/Type/XRef/W[1 1 1]/Root ${catalog} 0 R/Size ${this.#objects.length + 2}`;
    const references = this.flate(rows, `${dictionary}/DecodeParms<</Predictor 12/Columns 3>>`);
    return toBytes(`${body}${references} 0 obj\n${this.#objects[references - 1]}\nendobj\nstartxref\n${body.length}\n%%EOF\n`);
  }

  #finish() {
    const kids = this.#pages.map((number) => `${number} 0 R`).join(" ");
    this.#objects[this.#tree - 1] = `<</Type/Pages/Kids[${kids}]/Count ${this.#pages.length}>>`;
    return this.add(`<</Type/Catalog/Pages ${this.#tree} 0 R>>`);
  }
}

/** A file with objects added to it at its end, `[number, body]`, as programs save a change. */
export function updated(bytes, objects, trailer) {
  const before = fromBytes(bytes);
  const [body, places] = written(objects, before);
  return toBytes(`${body}${table(body.length, places, trailer)}`);
}

/** A map from codes to texts: `characters` are `[code, text]` and `ranges` `[first, last, text or texts]`, in hexadecimal. */
export function characterMap({ characters = [], ranges = [], codes = "<0000><FFFF>" }) {
  const list = (texts) => (Array.isArray(texts) ? `[${texts.map((text) => `<${text}>`).join(" ")}]` : `<${texts}>`);
  return [
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Adobe-Identity-UCS def",
    `1 begincodespacerange ${codes} endcodespacerange`,
    `${characters.length} beginbfchar`,
    ...characters.map(([code, text]) => `<${code}> <${text}>`),
    "endbfchar",
    `${ranges.length} beginbfrange`,
    ...ranges.map(([first, last, texts]) => `<${first}> <${last}> ${list(texts)}`),
    "endbfrange endcmap CMapName currentdict /CMap defineresource pop end end",
  ].join("\n");
}

/** Lines of text as a content: each at `[x, y, text]`. */
export function lines(...placed) {
  return placed.map(([x, y, text]) => `BT /F1 10 Tf 1 0 0 1 ${x} ${y} Tm (${text}) Tj ET`).join("\n");
}

export function deflated(text) {
  return deflateSync(Buffer.from(text, "latin1")).toString("latin1");
}

/** PNG's prediction of one kind for rows of `width` bytes: 0 none, 1 from the left, 2 from above. */
export function predicted(text, width, kind) {
  const data = Buffer.from(text.padEnd(Math.ceil(text.length / width) * width), "latin1");
  const rows = [];
  for (let start = 0; start < data.length; start += width) {
    const row = Array.from({ length: width }, (_, i) => {
      const before = [undefined, i > 0 ? data[start + i - 1] : 0, data[start + i - width]][kind];
      return data[start + i] - (before ?? 0);
    });
    rows.push(String.fromCharCode(kind, ...row.map((value) => value & 255)));
  }
  return rows.join("");
}

export function toBytes(text) {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

export function fromBytes(bytes) {
  return Buffer.from(bytes).toString("latin1");
}

function written(objects, before = "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n") {
  let body = before;
  const places = [];
  for (const [number, object] of objects) {
    places.push([number, body.length]);
    body += `${number} 0 obj\n${object}\nendobj\n`;
  }
  return [body, places];
}

function table(start, places, trailer) {
  const rows = places.map(([number, place]) => `${number} 1\n${String(place).padStart(10, "0")} 00000 n \n`);
  return `xref\n${rows.join("")}trailer\n<<${trailer}>>\nstartxref\n${start}\n%%EOF\n`;
}
