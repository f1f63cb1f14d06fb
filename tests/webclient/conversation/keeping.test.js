import assert from "node:assert/strict";
import { test } from "node:test";

import { Chat, End } from "../../../webclient/conversation/chat.js";
import { Keeping } from "../../../webclient/conversation/keeping.js";

function workplace({ running = new Set() } = {}) {
  const refused = new Set();
  const calls = [];
  const chats = {
    read: async (id) => (id === "kept" ? { id, title: "from the program" } : Promise.reject(new Error("gone"))),
    change: async (_, fields) => calls.push(["change", fields]),
    removeMessage: async (_, id) => calls.push(["removeMessage", id]),
  };
  const saver = {
    isRefused: ({ id }) => refused.has(id),
    forget: (messages) => calls.push(["forget", messages.map(({ id }) => id)]),
    saveWhole: async () => calls.push(["saveWhole"]),
  };
  return { keeping: new Keeping(chats, saver, (id) => running.has(id)), calls, refused, running };
}

function conversation() {
  const chat = new Chat();
  const question = chat.ask("q");
  const answer = chat.answer(question);
  Object.assign(answer, { content: "a", end: End.DONE });
  return { chat, question, answer };
}

test("a chat that is held here is read from here, others from the program, and some are nowhere", async () => {
  const { keeping } = workplace();
  const { chat } = conversation();
  keeping.hold(chat);
  assert.equal(await keeping.read(chat.id), chat);
  assert.equal((await keeping.read("kept")).title, "from the program");
  assert.equal(await keeping.read("unknown"), null);
});

test("a chat is held until its answer has ended and the program has taken it", () => {
  const { keeping, refused, running } = workplace();
  const { chat } = conversation();
  keeping.hold(chat);
  for (const reasons of [refused, running]) {
    reasons.add(chat.id);
    keeping.release(chat);
    assert.deepEqual(keeping.heldIds, [chat.id]);
    reasons.clear();
  }
  keeping.release(chat);
  assert.deepEqual(keeping.heldIds, []);
});

test("a removed message is gone at once, from the program too, and comes back with what hung below it", async () => {
  const { keeping, calls } = workplace();
  const { chat, question, answer } = conversation();
  const { leaf } = chat;
  const { saved, undo } = keeping.remove(chat, question);
  assert.equal(chat.isEmpty, true);
  await saved;
  assert.deepEqual(calls, [
    ["forget", [question.id, answer.id]],
    ["removeMessage", question.id],
    ["change", { leaf: null }],
  ]);
  await undo();
  assert.deepEqual(chat.path, [question, answer]);
  assert.equal(chat.leaf, leaf);
  assert.deepEqual(calls.at(-1), ["saveWhole"]);
});

test("of a chat that the program refused all is offered again when a part of it is removed", async () => {
  const { keeping, calls, refused } = workplace();
  const { chat, answer } = conversation();
  refused.add(chat.id);
  await keeping.remove(chat, answer).saved;
  assert.deepEqual(calls, [["forget", [answer.id]], ["saveWhole"]]);
  keeping.saveSettings(chat);
  assert.equal(calls.length, 2, "settings of a chat that isn't kept have no place");
});
