import assert from "node:assert/strict";
import { test } from "node:test";

import { textOf } from "../../../webclient/documents/read.js";
import { bestPassages } from "../../../webclient/documents/search.js";
import { splitPassages } from "../../../webclient/documents/split.js";

const PASSAGES = ["The lighthouse stands on a rock.", "Bread is baked at five.", "The keeper bakes no bread; ships pass by."];

test("the passage that shares rare words with the question is found", () => {
  assert.deepEqual(bestPassages("When is the bread baked?", PASSAGES, { count: 1 }), [1]);
  assert.deepEqual(bestPassages("the LIGHTHOUSES", PASSAGES, { count: 1 }), [0]);
});

test("vectors and words are heard alike", () => {
  const vectors = [
    [1, 0],
    [0, 1],
    [0.9, 0.1],
  ];
  assert.deepEqual(bestPassages("unknown", PASSAGES, { count: 2, vectors, questionVector: [1, 0] }), [0, 2]);
});

test("passages make up the text, none too long, and end where a thought does", () => {
  const text = Array.from({ length: 200 }, (_, index) => `Sentence number ${index} is here.${index % 7 ? " " : "\n\n"}`).join("");
  const passages = splitPassages(text);
  assert.equal(passages.join(" ").replace(/\s+/g, " "), text.trim().replace(/\s+/g, " "));
  for (const passage of passages) assert.ok(passage.length <= 1000 && passage.endsWith("."));
  assert.equal(splitPassages("x".repeat(2500)).length, 3);
  assert.deepEqual(splitPassages(" \n "), []);
});

test("bytes are read in the encoding they have, and what is no text is none", () => {
  assert.equal(textOf(new TextEncoder().encode("héllo")), "héllo");
  assert.equal(textOf(Uint8Array.of(0xff, 0xfe, 0x68, 0)), "h");
  assert.equal(textOf(Uint8Array.of(0x63, 0x61, 0x66, 0xe9)), "café");
  assert.equal(textOf(Uint8Array.of(0x89, 0x50, 0, 1)), null);
  assert.equal(textOf(Uint8Array.from({ length: 100 }, (_, index) => (index % 2 ? 0x81 + (index % 90) : 1))), null);
});
