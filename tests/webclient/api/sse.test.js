import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser } from "../../../webclient/api/sse.js";

const STREAM = [
  ": a comment\n",
  'data: {"a": 1}\n\n',
  "event: error\ndata: first line\ndata: second line\n\n",
  "data:no space\n\n",
  "data:  two spaces, one kept\n\n",
  "id: 7\nretry: 100\ndata\n\n",
  "event: nothing to tell\n\n",
  "data: é 🎈 \u2028 stays\n\n",
  "data: [DONE]\n\n",
].join("");

const EVENTS = [
  { name: "message", data: '{"a": 1}' },
  { name: "error", data: "first line\nsecond line" },
  { name: "message", data: "no space" },
  { name: "message", data: " two spaces, one kept" },
  { name: "message", data: "" },
  { name: "message", data: "é 🎈 \u2028 stays" },
  { name: "message", data: "[DONE]" },
];

function parse(...pieces) {
  const parser = new EventParser();
  return pieces.flatMap((piece) => parser.feed(piece));
}

for (const [name, lineEnd] of [
  ["LF", "\n"],
  ["CRLF", "\r\n"],
  ["CR", "\r"],
]) {
  const stream = STREAM.replaceAll("\n", lineEnd);

  test(`a stream with ${name} line ends is parsed whole`, () => {
    assert.deepEqual(parse(stream), EVENTS);
  });

  test(`a stream with ${name} line ends is parsed alike when split at every position`, () => {
    for (let at = 0; at <= stream.length; at++) {
      assert.deepEqual(parse(stream.slice(0, at), stream.slice(at)), EVENTS, `split at ${at}`);
    }
  });

  test(`a stream with ${name} line ends is parsed alike when fed by the character`, () => {
    assert.deepEqual(parse(...stream), EVENTS);
  });
}

test("an event is returned by the piece that ends it", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.feed("data: now\n"), []);
  assert.deepEqual(parser.feed("\n"), [{ name: "message", data: "now" }]);
});

test("an event that the stream's end cut off is not an event", () => {
  assert.deepEqual(parse("data: whole\n\ndata: ha"), [{ name: "message", data: "whole" }]);
  assert.deepEqual(parse("data: no blank line\n"), []);
});

test("a byte order mark is skipped at the very start only", () => {
  assert.deepEqual(
    parse("\uFEFFdata: a\n\ndata: \uFEFFb\n\n").map((event) => event.data),
    ["a", "\uFEFFb"],
  );
});

test("an event's name does not leak into the next event", () => {
  assert.deepEqual(parse("event: error\n\ndata: a\n\n"), [{ name: "message", data: "a" }]);
});
