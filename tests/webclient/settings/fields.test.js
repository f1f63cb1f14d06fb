import assert from "node:assert/strict";
import { test } from "node:test";

import { FIELDS, knownSettings, numbersOf, requestFields, standardOf } from "../../../webclient/settings/fields.js";

test("a request carries only what was changed, under the API's names", () => {
  assert.deepEqual(requestFields({}), {});
  assert.deepEqual(requestFields({ system: "x", temperature: 0, stops: ["a"], max_tokens: 5, seed: 7 }), {
    temperature: 0,
    stop: ["a"],
    max_tokens: 5,
    seed: 7,
  });
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

test("the bundle's own settings are the standard, then the program's, and -1 means none", () => {
  const field = (key) => FIELDS.find((each) => each.key === key);
  const settings = [
    { name: "temperature", default: 0.33 },
    { name: "max_tokens", default: null },
  ];
  assert.equal(standardOf(field("temperature"), { defaults: { temperature: 0.2 }, settings }), 0.2);
  assert.equal(standardOf(field("temperature"), { defaults: {}, settings }), 0.33);
  assert.equal(standardOf(field("temperature"), { defaults: { temperature: null }, settings }), 0.33);
  assert.equal(standardOf(field("max_tokens"), { defaults: { max_tokens: -1 }, settings }), null);
  assert.equal(standardOf(field("max_tokens"), { defaults: { max_tokens: 12 }, settings }), 12);
  assert.deepEqual([standardOf(field("stops"), {}), standardOf(field("format"), {}), standardOf(field("system"), {})], [[], "text", ""]);
});

test("a setting's numbers are the program's, and none is written in the fields", () => {
  const temperature = { name: "temperature", default: 5, minimum: 3, maximum: 9, usual_minimum: 4, usual_maximum: 6, step: 0.125 };
  const [field] = FIELDS.filter(({ key }) => key === temperature.name);
  assert.deepEqual(numbersOf(field, { settings: [{ name: "seed" }, temperature] }), temperature);
  assert.deepEqual(numbersOf(field, {}), {});
  for (const each of FIELDS) assert.ok(!Object.values(each).some((value) => typeof value === "number"), each.key);
});
