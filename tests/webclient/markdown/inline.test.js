import assert from "node:assert/strict";
import { test } from "node:test";

import { parseInline, safeAddress } from "../../../webclient/markdown/inline.js";

/** Nodes as a short text: <strong>…</strong> and the like. */
function shown(nodes) {
  return nodes.map(one).join("");
}

function one(node) {
  if (typeof node === "string") return node;
  if (node.kind === "link") return `[${shown(node.children)}](${node.address})`;
  return node.kind === "break" ? "⏎" : `<${node.kind}>${node.text ?? shown(node.children)}</>`;
}

for (const [text, expected] of [
  ["**a** *b* _c_ __d__ ~~e~~", "<strong>a</> <emphasis>b</> <emphasis>c</> <strong>d</> <deleted>e</>"],
  ["***a***", "<emphasis><strong>a</></>"],
  ["**a *b* c**", "<strong>a <emphasis>b</> c</>"],
  ["2 * 3 * 4", "2 * 3 * 4"],
  ["snake_case_name", "snake_case_name"],
  ["**never closed", "**never closed"],
  ["**bold:**text", "<strong>bold:</>text"],
  ["`a*b*` ``c`d``", "<code>a*b*</> <code>c`d</>"],
  ["\\*a\\*", "*a*"],
  ["a\nb<br>c", "a⏎b⏎c"],
  ["&amp;&lt;b&gt;&#x41;&bogus;", "&<b>A&bogus;"],
  ["[a](https://b.c/(d))", "[a](https://b.c/(d))"],
  ["[a **b**](http://c)", "[a <strong>b</>](http://c)"],
  ["see https://a.b/c_d. Or (https://e.f)", "see [https://a.b/c_d](https://a.b/c_d). Or ([https://e.f](https://e.f))"],
  ["<https://a.b>", "[https://a.b](https://a.b)"],
  ["![alt](https://a.b/c.png)", "[alt](https://a.b/c.png)"],
  ["[a](javascript:alert(1))", "a"],
  ["[a](data:text/html,x)", "a"],
  ["<javascript:alert(1)>", "<javascript:alert(1)>"],
  ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
  ["$x^2$ for $5 and $10", "<math>x^2</> for $5 and $10"],
  ["\\(a+b\\)", "<math>a+b</>"],
]) {
  test(`inline ${JSON.stringify(text)}`, () => assert.equal(shown(parseInline(text)), expected));
}

for (const [text, expected] of [
  ["say **bo", "say <strong>bo</>"],
  ["say `co", "say <code>co</>"],
  ["say **", "say "],
  ["see [here](http://exa", "see here"],
]) {
  test(`while it grows ${JSON.stringify(text)}`, () => assert.equal(shown(parseInline(text, { isGrowing: true })), expected));
}

test("only addresses of the web and of mail are links", () => {
  for (const good of ["https://a", "HTTP://a", "mailto:a@b"]) assert.equal(safeAddress(good), good);
  for (const bad of ["javascript:x", " javascript:x", "java\nscript:x", "vbscript:x", "data:x", "file:///x", "//x", "x"]) {
    assert.equal(safeAddress(bad), null, bad);
  }
});

test("hostile texts cost no more than long ones", () => {
  // No time is measured: what is quadratic here would not end within the test runner's patience.
  const parts = ["*a ", "**a __b ", "[", "![", "](a '", "[a](", "`a``", "$a", "\\(", "<", "&", "_a_*b", "https://(", "~~"];
  for (const part of parts) parseInline(part.repeat(40_000), { isGrowing: true });
});
