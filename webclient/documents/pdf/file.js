// A PDF's objects and streams (ISO 32000-1, 7.3.8, 7.5.7). Objects are found by looking for "N G obj" instead of by the
// cross-reference table, which broken files have wrong more often than not; of two with a number the later one holds.

import { decode } from "./filters.js";
import { latin, valuesIn } from "./syntax.js";

const OBJECT = /(\d{1,9})\s{1,9}\d{1,5}\s{1,9}obj(?![a-z])|\btrailer(?=\s*<<)/g;
const END = /\r?\n?endstream/g;
const MAX_STEPS = 20; // from a reference to what it stands for

export class PdfFile {
  #bytes;
  #text;
  #places = new Map(); // number → where its object stands
  #objects = new Map(); // number → the object, once it was wanted
  #trailers = [];

  constructor(bytes) {
    this.#bytes = bytes;
    this.#text = latin(bytes);
  }

  async open() {
    const containers = [];
    for (const { 0: whole, 1: number, index } of this.#text.matchAll(OBJECT)) {
      const at = index + whole.length;
      const head = this.#text.slice(at, at + 1000).split(/endobj|stream/, 1)[0];
      if (number) this.#places.set(Number(number), at);
      if (!number || /\/XRef\b/.test(head)) this.#trailers.push(this.#read(at));
      if (/\/ObjStm\b/.test(head)) containers.push(at);
    }
    if (!this.isEncrypted) for (const at of containers) await this.#unpack(at);
  }

  get isEncrypted() {
    return this.#trailers.some((trailer) => this.get(trailer, "Encrypt") instanceof Map);
  }

  /** All objects of a type. */
  ofType(type) {
    return [...this.#places.keys()].map((ref) => this.resolve({ ref })).filter((object) => this.get(object, "Type") === type);
  }

  /** The newest page tree, or undefined. */
  get pageTree() {
    return this.#trailers.map((trailer) => this.get(trailer, "Root", "Pages")).findLast(Boolean);
  }

  /** What a reference stands for; other values as they are. */
  resolve(value) {
    for (let steps = 0; value?.ref && steps < MAX_STEPS; steps++) {
      const { ref } = value;
      if (!this.#objects.has(ref)) this.#objects.set(ref, this.#places.has(ref) ? this.#read(this.#places.get(ref)) : undefined);
      value = this.#objects.get(ref);
    }
    return value;
  }

  /** What a way through dictionaries leads to, resolved; undefined when it leads nowhere. */
  get(dictionary, ...keys) {
    let value = this.resolve(dictionary);
    for (const key of keys) value = value instanceof Map ? this.resolve(value.get(key)) : undefined;
    return value;
  }

  /** The same as a list, resolved: an array's elements, another value alone, or none. */
  list(dictionary, ...keys) {
    const value = this.get(dictionary, ...keys) ?? [];
    return Array.isArray(value) ? value.map((each) => this.resolve(each)) : [value];
  }

  /** A stream's bytes, unpacked, as a text; "" of what is no stream or is packed in a way that is not known. */
  async stream(value) {
    const object = this.resolve(value);
    const start = object?.streamAt;
    if (!start) return "";
    const length = this.get(object, "Length");
    const isRight = /^\s*endstream/.test(this.#text.slice(start + length, start + length + 20));
    END.lastIndex = start;
    const end = isRight ? start + length : END.exec(this.#text)?.index;
    const parameters = this.list(object, "DecodeParms");
    const steps = this.list(object, "Filter").map((name, index) => [name, (key) => this.get(parameters[index], key)]);
    return latin(await decode(this.#bytes.subarray(start, end), steps));
  }

  /** The object at a place in the file; a stream is a dictionary that says where its bytes begin. */
  #read(at) {
    const values = valuesIn(this.#text, at);
    const { value } = values.next();
    const next = value instanceof Map ? values.next().value : null;
    if (next?.word === "stream") value.streamAt = next.at;
    return value;
  }

  /** Take the objects out of the stream that holds them, unless the file has newer ones. */
  async #unpack(at) {
    const container = this.#read(at);
    const content = await this.stream(container);
    const first = this.get(container, "First");
    const heads = content.slice(0, first).trim().split(/\s+/).map(Number);
    for (let i = 0; i + 1 < heads.length; i += 2) {
      if (this.#places.get(heads[i]) > at) continue;
      this.#places.set(heads[i], at);
      this.#objects.set(heads[i], valuesIn(content, first + heads[i + 1]).next().value);
    }
  }
}
