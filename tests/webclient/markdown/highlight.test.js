import assert from "node:assert/strict";
import { test } from "node:test";

import { highlightLine, languageNamed } from "../../../webclient/markdown/highlight.js";

function marked(name, source) {
  let state = null;
  return source.split("\n").map((line) => {
    const result = highlightLine(languageNamed(name), line, state);
    state = result.state;
    assert.equal(result.tokens.map(([, text]) => text).join(""), line, "a line loses nothing");
    return result.tokens
      .filter(([kind]) => kind)
      .map(([kind, text]) => `${kind}:${text}`)
      .join(" ");
  });
}

for (const [name, source, expected] of [
  ["python", 'def f(x): # "no"', ['keyword:def call:f comment:# "no"']],
  ["py", 'a = """one\ntwo"""\nb', ['string:"""one', 'string:two"""', ""]],
  ["js", "a /* b\nc */ return 1.5e3", ["comment:/* b", "comment:c */ keyword:return number:1.5e3"]],
  ["sql", "SELECT 'a' -- b", ["keyword:SELECT string:'a' comment:-- b"]],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell writes this, too
  ["sh", "echo ${#x} # y", ["keyword:echo comment:# y"]],
  ["rust", "fn a<'b>()", ["keyword:fn"]],
  ["html", '<b class="x">', ['keyword:<b string:"x"']],
  ["", "let a = 1", [""]],
]) {
  test(`${name}: ${JSON.stringify(source)}`, () => assert.deepEqual(marked(name, source), expected));
}
