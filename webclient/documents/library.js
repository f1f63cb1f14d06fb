// Long documents, made ready to be asked: split, turned into vectors by the model of the bundle, looked up.

import { ApiError, embed } from "../api/api.js";
import { bestPassages } from "./search.js";
import { splitPassages } from "./split.js";

const BATCH = 8; // short enough that a stream is not held up for long

export class Library {
  #books = new Map(); // document id → promise of `{passages, vectors}`

  /** Make a document ready; `onProgress(done, total)`. Vectors are null where the model makes none. */
  prepare({ id, text }, onProgress = () => {}) {
    if (!this.#books.has(id)) this.#books.set(id, read(text, onProgress));
    return this.#books.get(id);
  }

  /** The `count` passages of `documents` that fit a question best, as attachments. */
  async find(question, documents, count) {
    const books = await Promise.all(documents.map((document) => this.prepare(document)));
    const all = books.flatMap(({ passages }, book) => passages.map((text, part) => ({ book, part, text })));
    const hasVectors = books.every(({ vectors }) => vectors !== null);
    const questionVector = hasVectors ? (await vectorsOf([question]))?.[0] : null;
    const vectors = questionVector ? books.flatMap((book) => book.vectors) : null;
    const texts = all.map(({ text }) => text);
    return bestPassages(question, texts, { count, vectors, questionVector }).map((index) => {
      const { book, part, text } = all[index];
      return { kind: "passage", name: documents[book].name, part: part + 1, total: books[book].passages.length, text };
    });
  }
}

async function read(text, onProgress) {
  const passages = splitPassages(text);
  const vectors = [];
  for (let start = 0; start < passages.length; start += BATCH) {
    onProgress(start, passages.length);
    const some = await vectorsOf(passages.slice(start, start + BATCH));
    if (some === null) return { passages, vectors: null };
    vectors.push(...some);
  }
  return { passages, vectors };
}

/** Vectors, or null when the model makes none: words alone have to do then. */
async function vectorsOf(texts) {
  return embed(texts).catch((error) => {
    if (error instanceof ApiError) return null;
    throw error;
  });
}
