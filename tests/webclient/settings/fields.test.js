import assert from "node:assert/strict";
import { test } from "node:test";

import { FIELDS, knownSettings, requestFields, standardOf } from "../../../webclient/settings/fields.js";

test("a request carries only what was changed, under the API's names", () => {
  assert.deepEqual(requestFields({}), {});
  assert.deepEqual(requestFields({ system: "x", temperature: 0, stops: ["a"], max_tokens: 5, seed: 7 }), { temperature: 0, stop: ["a"], max_tokens: 5, seed: 7 });
});

test("a form becomes what the API asks for it", () => {
  assert.deepEqual(requestFields({ format: "json", schema: "{}" }), { response_format: { type: "json_object" } });
  const { response_format: format } = requestFields({ format: "schema", schema: '{"type":"object"}' });
  assert.deepEqual(format.json_schema.schema, { type: "object" });
  assert.deepEqual(requestFields({ format: "grammar", grammar: 'root ::= "a"' }), { grammar: 'root ::= "a"' });
  assert.deepEqual(requestFields({ format: "schema", schema: "{" }), {});
});

test("what a stranger's file calls settings is dropped where it is none", () => {
  const settings = { temperature: "hot", top_k: null, format: "constructor", stops: [1], system: 5, evil: 1, seed: 3 };
  assert.deepEqual(knownSettings(settings), { seed: 3 });
});

test("the bundle's own settings are the standard, and its -1 means none", () => {
  const field = (key) => FIELDS.find((each) => each.key === key);
  assert.equal(standardOf(field("temperature"), { temperature: 0.2 }), 0.2);
  assert.equal(standardOf(field("temperature"), {}), 0.8);
  assert.equal(standardOf(field("max_tokens"), { max_tokens: -1 }), null);
});
