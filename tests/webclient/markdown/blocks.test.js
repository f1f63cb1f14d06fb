import assert from "node:assert/strict";
import { test } from "node:test";

import { GrowingBlocks, parseBlocks } from "../../../webclient/markdown/blocks.js";

const kinds = (text, options) => parseBlocks(text, options).map(({ kind }) => kind);

for (const [text, expected] of [
  ["one\ntwo\n\nthree", ["paragraph", "paragraph"]],
  ["# a\n## b #\ntext", ["heading", "heading", "paragraph"]],
  ["#tag", ["paragraph"]],
  ["a\n===\nb\n---\nc", ["heading", "heading", "paragraph"]],
  ["***\n- - -\n___", ["rule", "rule", "rule"]],
  ["```js\nlet a;\n```\nafter", ["code", "paragraph"]],
  ["~~~\nnever closed", ["code"]],
  ["    indented", ["code"]],
  ["> a\nlazy\n\nout", ["quote", "paragraph"]],
  ["- a\n- b\n\n1. c", ["list", "list"]],
  ["text\n- item", ["paragraph", "list"]],
  ["born in\n1984. That was", ["paragraph"]],
  ["| a | b |\n|---|---|\n| 1 | 2 |", ["table"]],
  ["| a | b |\nno table", ["paragraph"]],
  ["$$\nx\n$$\n\\[y\\]", ["math", "math"]],
  ["$$ never closed\n\nafter", ["paragraph", "paragraph"]],
  ["<script>alert(1)</script>", ["paragraph"]],
]) {
  test(`blocks of ${JSON.stringify(text)}`, () => assert.deepEqual(kinds(text), expected));
}

test("a list nests by indent, also by two under a number, and holds blocks", () => {
  const [list] = parseBlocks("1. one\n  - two\n  - three\n\n2. four\n\n   ```\n   code\n   ```");
  assert.equal(list.items.length, 2);
  assert.deepEqual(
    list.items[0].children.map(({ kind }) => kind),
    ["paragraph", "list"],
  );
  assert.deepEqual(
    list.items[1].children.map(({ kind }) => kind),
    ["paragraph", "code"],
  );
  assert.equal(list.items[1].children[1].text, "code");
});

test("a list is tight without gaps, starts where its first number says, and knows tasks", () => {
  assert.equal(parseBlocks("- a\n- b")[0].isTight, true);
  assert.equal(parseBlocks("- a\n\n- b")[0].isTight, false);
  assert.equal(parseBlocks("7. a")[0].start, 7);
  assert.deepEqual(
    parseBlocks("- [x] a\n- [ ] b\n- c")[0].items.map(({ isChecked }) => isChecked),
    [true, false, null],
  );
});

test("a table's cells may hold escaped bars and code, and rows have as many as the head", () => {
  const [table] = parseBlocks("a | b\n:--|--:\n`x|y` | c\\|d | e\nf");
  assert.deepEqual(table.columns, ["start", "end"]);
  assert.deepEqual(table.rows, [
    ["`x|y`", "c|d"],
    ["f", ""],
  ]);
});

test("a fence longer than those inside holds them", () => {
  assert.equal(parseBlocks("````\n```\nin\n```\n````")[0].text, "```\nin\n```");
});

test("what may yet become a fence or a table is held back while a text grows", () => {
  assert.deepEqual(kinds("text\n\n``", { isGrowing: true }), ["paragraph"]);
  assert.deepEqual(kinds("| a | b", { isGrowing: true }), ["table"]);
  assert.deepEqual(kinds("| a | b |\n|--", { isGrowing: true }), ["table"]);
});

const DOCUMENT =
  "# Hi\ntext **a**\n- one\n  - two\n\n  - three\n- four\n\npara\n- \n\n1. a\n   ```js\n   x\n   ```\n2. b\n\n" +
  "| a | b |\n|---|:-:|\n| 1 | 2 |\n\nfoo\n---\n> quote\nlazy\n\n$$\nx^2\n$$\n\nend\n```py\nif x:\n\n    y\n```\nlast\n===\n";

test("a text read as it grows has the same blocks as one read at once, at every length", () => {
  const growing = new GrowingBlocks();
  for (let end = 0; end <= DOCUMENT.length; end++) {
    const text = DOCUMENT.slice(0, end);
    assert.deepEqual(growing.read(text), parseBlocks(text, { isGrowing: true }), JSON.stringify(text));
  }
  assert.deepEqual(growing.read(DOCUMENT, { isGrowing: false }), parseBlocks(DOCUMENT));
});

test("settled blocks keep their identity, and another text begins anew", () => {
  const growing = new GrowingBlocks();
  const [first] = growing.read("one\n\ntwo\n\nthree");
  assert.equal(growing.read("one\n\ntwo\n\nthree\n\nfour")[0], first);
  assert.deepEqual(growing.read("other"), parseBlocks("other", { isGrowing: true }));
});
