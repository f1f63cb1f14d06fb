import assert from "node:assert/strict";
import { test } from "node:test";

import { Tokens } from "../../../webclient/notebook/tokens.js";

function written() {
  const tokens = new Tokens();
  tokens.edit("Once ");
  tokens.append("upon a time", [{ text: "upon" }, { text: " a" }, { text: " time" }]);
  return tokens;
}

const shown = (tokens) => tokens.all.map(({ start, end }) => tokens.text.slice(start, end));

test("tokens stand where the model wrote them", () => {
  assert.deepEqual(shown(written()), ["upon", " a", " time"]);
  assert.equal(written().at(5).text, "upon");
  assert.equal(written().at(2), null);
});

for (const [name, text, expected] of [
  ["before them", "At Once upon a time", ["upon", " a", " time"]],
  ["inside one", "Once upxon a time", [" a", " time"]],
  ["between two", "Once upon! a time", ["upon", " a", " time"]],
  ["at the end", "Once upon a time!", ["upon", " a", " time"]],
  ["cutting the end", "Once upon a", ["upon", " a"]],
  ["all", "", []],
]) {
  test(`an edit ${name} keeps the tokens it does not touch`, () => {
    const tokens = written();
    tokens.edit(text);
    assert.equal(tokens.text, text);
    assert.deepEqual(shown(tokens), expected);
  });
}

test("tokens that do not make up the text are not placed", () => {
  const tokens = new Tokens();
  tokens.append("é", [{ text: "\ufffd" }, { text: "\ufffd" }]);
  assert.equal(tokens.text, "é");
  assert.deepEqual(tokens.all, []);
});
