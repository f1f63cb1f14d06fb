import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import en from "../../../webclient/language/en.js";
import fr from "../../../webclient/language/fr.js";
import { FIELDS, GROUPS } from "../../../webclient/settings/fields.js";

const PAGE = fileURLToPath(new URL("../../../webclient", import.meta.url));
const files = readdirSync(PAGE, { recursive: true });
const sources = files
  .filter((name) => /\.(js|html)$/.test(name) && !name.startsWith("language"))
  .map((name) => readFileSync(join(PAGE, name), "utf8"));

test("every language has the same words, of the same kind", () => {
  assert.deepEqual(Object.keys(fr), Object.keys(en));
  for (const key of Object.keys(en)) {
    assert.equal(typeof fr[key], typeof en[key], key);
    assert.equal(fr[key].length > 0, en[key].length > 0, key);
  }
});

test("every word that the page asks for is there", () => {
  const wanted = new Set();
  for (const source of sources) {
    for (const [, key] of source.matchAll(/\bstrings\.(\w+)/g)) wanted.add(key);
    for (const [, key] of source.matchAll(/data-(?:text|label|hint)="(\w+)"/g)) wanted.add(key);
  }
  for (const { name } of GROUPS) wanted.add(name);
  for (const { key, choices = {} } of FIELDS) for (const each of [key, `${key}Help`, ...Object.values(choices)]) wanted.add(each);
  assert.deepEqual(
    [...wanted].filter((key) => !Object.hasOwn(en, key)),
    [],
  );
});

test("no word is there that nobody asks for", () => {
  const all = sources.join("\n");
  const computed = /^(appearance|group|format|setting)|Help$|Hint$/;
  const names = FIELDS.map(({ key }) => key);
  const unused = Object.keys(en).filter((key) => !new RegExp(`\\b${key}\\b`).test(all) && !computed.test(key) && !names.includes(key));
  assert.deepEqual(unused, []);
});

test("French signs never begin a line", () => {
  const texts = Object.entries(fr).filter(([, text]) => typeof text === "string");
  assert.deepEqual(
    texts.filter(([, text]) => / [:;?!»]|« /.test(text)),
    [],
  );
});
