import assert from "node:assert/strict";
import { test } from "node:test";

import { Chat } from "../../../webclient/conversation/chat.js";
import { Saver } from "../../../webclient/server/saver.js";

/** Chats as the program keeps them: a parent and a leaf must be there. */
class Kept {
  messages = new Map();
  leaf = null;
  isAway = false;

  async writeMessage(_chat, message, { leaf }) {
    if (this.isAway) throw new Error("away");
    if (message.parent !== null) assert.ok(this.messages.has(message.parent), "the parent is kept first");
    this.messages.set(message.id, message);
    if (leaf !== undefined) assert.ok(this.messages.has(leaf), "the leaf is kept first");
    this.leaf = leaf ?? this.leaf;
  }
}

function asked() {
  const chat = new Chat();
  const question = chat.ask("q");
  return { chat, question, answer: chat.answer(question) };
}

test("a question is kept before its answer has begun, and the answer becomes the leaf", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, assert.fail);
  await saver.now(chat, question);
  assert.equal(kept.leaf, question.id);
  answer.content = "a";
  await saver.now(chat, answer);
  assert.equal(kept.leaf, answer.id);
});

test("what could not be kept is kept later, in the order in which it hangs together", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  let numTroubles = 0;
  const saver = new Saver(kept, () => numTroubles++);
  kept.isAway = true;
  await saver.now(chat, question);
  await saver.now(chat, answer);
  assert.equal(numTroubles, 2);
  kept.isAway = false;
  await saver.flush();
  assert.deepEqual([...kept.messages.keys()], [question.id, answer.id]);
});

test("a message on a branch that is not shown leaves the leaf alone", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, assert.fail);
  await saver.now(chat, question);
  chat.ask("other", { parent: null });
  await saver.now(chat, answer);
  assert.equal(kept.leaf, question.id);
});

test("a message that was deleted meanwhile is not kept again", async () => {
  const { chat, question } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, assert.fail);
  saver.soon(chat, question);
  saver.forget([question]);
  await saver.flush();
  assert.equal(kept.messages.size, 0);
});
