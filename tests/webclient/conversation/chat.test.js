import assert from "node:assert/strict";
import { test } from "node:test";

import { Chat, End, titleFor } from "../../../webclient/conversation/chat.js";
import { numToShow, wholeCharacters } from "../../../webclient/conversation/pace.js";
import { messagesFor } from "../../../webclient/conversation/prompt.js";

function answered(chat, question, answer, options) {
  const asked = chat.ask(question, options);
  const message = chat.answer(asked);
  Object.assign(message, { content: answer, end: End.DONE });
  return [asked, message];
}

const shown = (chat) => chat.path.map(({ content }) => content);

test("an edited question branches, and each branch is shown with what followed it", () => {
  const chat = new Chat();
  const [first] = answered(chat, "q1", "a1");
  answered(chat, "q2", "a2");
  const [other] = answered(chat, "q1b", "a1b", { parent: null });
  assert.deepEqual(shown(chat), ["q1b", "a1b"]);
  assert.deepEqual(chat.tree.versions(other), [first, other]);
  chat.show(first);
  assert.deepEqual(shown(chat), ["q1", "a1", "q2", "a2"]);
});

test("removing a version shows the one beside it, removing the only one what is above", () => {
  const chat = new Chat();
  const [question, answer] = answered(chat, "q", "a");
  const second = chat.answer(question);
  Object.assign(second, { content: "b", end: End.DONE });
  assert.deepEqual(chat.remove(second), [second]);
  assert.deepEqual(shown(chat), ["q", "a"]);
  chat.remove(answer);
  assert.deepEqual(shown(chat), ["q"]);
  chat.remove(question);
  assert.equal(chat.leaf, null);
  assert.equal(chat.isEmpty, true);
});

test("a chat comes back from its JSON as it was, and an unfinished answer is broken off", () => {
  const chat = new Chat();
  const [, answer] = answered(chat, "q", "a");
  answer.stats = { tokens: 3 };
  const open = chat.answer(chat.ask("more"));
  open.content = "half";
  const back = Chat.fromJson(JSON.parse(JSON.stringify(chat.toJson())));
  assert.deepEqual(shown(back), ["q", "a", "more", "half"]);
  assert.deepEqual(back.path[1].stats, { tokens: 3 });
  assert.equal(back.path[3].end, End.BROKEN);
});

test("a chat from a stranger's file may hold anything and still opens", () => {
  const ring = [
    { id: "a", parent: "b" },
    { id: "b", parent: "a" },
    { id: "c", parent: "c" },
    { id: "d", parent: "gone" },
  ];
  const messages = [...ring, null, 7, { id: {}, role: "system", content: ["x"], stats: "x", attachments: [null, { kind: 1 }] }];
  const chat = Chat.fromJson({ id: 1, title: {}, leaf: "a", settings: [], messages });
  assert.ok(chat.path.length > 0);
  for (const message of chat.tree.all) {
    assert.ok(chat.tree.versions(message).length > 0);
    chat.show(message);
    assert.deepEqual(message.attachments, []);
  }
  chat.remove(chat.tree.get("a"));
  assert.equal(chat.tree.get("b"), null);
});

test("questions without an answer are not sent, the last one is, and so is an answer to go on with", () => {
  const chat = new Chat();
  answered(chat, "q1", "a1");
  answered(chat, "q2", "");
  const [, third] = answered(chat, "q3", "a3");
  assert.deepEqual(
    messagesFor(chat.path, { system: " " }).map(({ content }) => content),
    ["q1", "a1", "q3", "a3"],
  );
  assert.deepEqual(
    messagesFor(chat.tree.path(third.parent), { system: "Be kind" }).map(({ role }) => role),
    ["system", "user", "assistant", "user"],
  );
});

test("files go before the question, fenced so that they cannot end their fence, and pictures as parts", () => {
  const attachments = [
    { kind: "text", name: "a.md", text: "x\n````\ny" },
    { kind: "document", name: "long.txt", text: "not sent" },
    { kind: "passage", name: "long.txt", text: "sent" },
    { kind: "image", name: "p.png", data: "data:image/jpeg;base64,AA" },
  ];
  const [{ content }] = messagesFor([{ role: "user", content: "Well?", attachments }]);
  assert.equal(content[0].image_url.url, "data:image/jpeg;base64,AA");
  assert.match(content[1].text, /“a\.md”:\n\n`````\nx\n````\ny\n`````\n\nFrom “long\.txt”:\n\n```\nsent\n```\n\nWell\?$/);
  assert.doesNotMatch(content[1].text, /not sent/);
});

test("a title is the question's first line, cut at a word", () => {
  assert.equal(titleFor("  Hello\nthere"), "Hello");
  assert.equal(titleFor("word ".repeat(30)), `${"word ".repeat(11)}word…`);
  assert.equal(titleFor("é".repeat(100)), `${"é".repeat(60)}…`);
});

test("what waits is shown soon, and never half a character", () => {
  assert.equal(numToShow(0, 16), 0);
  assert.equal(numToShow(1, 16), 1);
  assert.equal(numToShow(100, 16), 10);
  assert.equal(numToShow(100, 1000), 100);
  assert.equal(wholeCharacters("a😀b", 2), 3);
  assert.equal(wholeCharacters("a😀b", 3), 3);
});
