import assert from "node:assert/strict";
import { test } from "node:test";

import { Chat, End } from "../../../webclient/conversation/chat.js";
import { documentIn, fileName, fileOf, fileOfAll } from "../../../webclient/conversation/export.js";

const WORDS = { you: "You", model: "Model" };

function conversation() {
  const chat = new Chat();
  const attachments = [
    { kind: "text", name: "a.txt", text: "x" },
    { kind: "passage", name: "long.txt", text: "y" },
  ];
  Object.assign(chat.answer(chat.ask("q", { attachments })), { content: "**a**\n", end: End.DONE });
  return chat;
}

test("a chat as Markdown says who said what, and which files went along", () => {
  const { name, content, type } = fileOf(conversation(), "md", WORDS);
  assert.equal(content, "# q\n\n**You**\n\n📎 a.txt\n\nq\n\n**Model**\n\n**a**\n");
  assert.deepEqual([name, type], ["q.md", "text/markdown"]);
});

test("a chat as JSON is a document of one, which is known again", () => {
  const chat = conversation();
  const { name, content, type } = fileOf(chat, "json", WORDS);
  assert.deepEqual([name, type], ["q.json", "application/json"]);
  assert.deepEqual(documentIn(content).chats, [JSON.parse(JSON.stringify(chat.toJson()))]);
});

test("all chats are a document with the bundle's name", () => {
  const { name, content } = fileOfAll("Tiny: chats", { format: "holdall.chats", chats: [] });
  assert.equal(name, "Tiny chats.json");
  assert.deepEqual(documentIn(content), { format: "holdall.chats", chats: [] });
});

for (const text of ["", "null", "7", "[]", "{}", '{"format": "other"}', "# q"]) {
  test(`no document of chats: ${JSON.stringify(text)}`, () => assert.equal(documentIn(text), null));
}

test("a file's name holds nothing that some system refuses, and is never empty", () => {
  assert.equal(fileName('a/b:c*"?…', "md"), "a b c.md");
  assert.equal(fileName("???", "md"), "chat.md");
  assert.equal(fileName("x".repeat(200), "md"), `${"x".repeat(80)}.md`);
  assert.equal(fileName("and so on...", "md"), "and so on.md");
});
