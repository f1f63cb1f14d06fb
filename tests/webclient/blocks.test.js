import assert from "node:assert/strict";
import { test } from "node:test";

import { splitBlocks } from "../../webclient/blocks.js";

const paragraph = (text) => ({ kind: "paragraph", text, language: "" });
const code = (text, language = "") => ({ kind: "code", text, language });

const TABLE = [
  ["nothing", "", []],
  ["one line", "Paris.", [paragraph("Paris.")]],
  ["a single line break stays inside its paragraph", "a\nb", [paragraph("a\nb")]],
  ["blank lines end a paragraph, however many", "a\n\n \n\nb", [paragraph("a"), paragraph("b")]],
  ["leading line breaks are dropped", "\n\na", [paragraph("a")]],
  [
    "a fenced block",
    "a\n```python\nx = 1\n\ny = 2\n```\nb",
    [paragraph("a"), code("x = 1\n\ny = 2", "python"), paragraph("b")],
  ],
  ["only the first word after the fence is the language", '```js title="x"\n1\n```', [code("1", "js")]],
  ["tildes fence too", "~~~\n```\n~~~", [code("```")]],
  ["a longer fence holds a shorter one", "````\n```\n````", [code("```")]],
  [
    "a fence inside a list loses the list's indent",
    "- a\n  ```\n  x\n    y\n  ```",
    [paragraph("- a"), code("x\n  y")],
  ],
  ["an unclosed fence runs to the end", "```\nx\n", [code("x\n")]],
  ["backticks within a line are no fence", "use ```x``` here", [paragraph("use ```x``` here")]],
  ["an inline fence at the start of a line is no fence", "```x``` here", [paragraph("```x``` here")]],
  ["an empty block", "```\n```", [code("")]],
  ["markup is text like any other", "<b>x</b>", [paragraph("<b>x</b>")]],
];

for (const [name, text, expected] of TABLE) {
  test(name, () => assert.deepEqual(splitBlocks(text), expected));
}

test("a line that may become a fence is held back while the text grows", () => {
  assert.deepEqual(splitBlocks("a\n``", { isGrowing: true }), [paragraph("a")]);
  assert.deepEqual(splitBlocks("a\n``"), [paragraph("a\n``")]);
  assert.deepEqual(splitBlocks("```\nx\n`", { isGrowing: true }), [code("x")]);
});

test("a language is named once its line is whole", () => {
  assert.deepEqual(splitBlocks("```py", { isGrowing: true }), [code("")]);
  assert.deepEqual(splitBlocks("```python\n", { isGrowing: true }), [code("", "python")]);
});

test("while a text grows, settled blocks never change and their number never shrinks", () => {
  const text =
    "One.\n\nTwo\nlines.\n\n```js\nlet a = `x`;\n\n``\n```\n\nThree `` four.\n\n- five\n  ```\n  six\n  ```\n";
  let before = [];
  for (let end = 0; end <= text.length; end++) {
    const now = splitBlocks(text.slice(0, end), { isGrowing: true });
    assert.ok(now.length >= before.length, `a block vanished at ${end}`);
    const settled = before.slice(0, -1);
    assert.deepEqual(now.slice(0, settled.length), settled, `a settled block changed at ${end}`);
    before = now;
  }
  assert.deepEqual(splitBlocks(text), before);
});
