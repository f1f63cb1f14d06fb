import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Chat } from "../../../webclient/conversation/chat.js";
import { ApiError, Fault } from "../../../webclient/api/api.js";
import { Saver } from "../../../webclient/api/saver.js";

/** Chats as the program keeps them: a parent and a leaf must be there, and there is not room for everything. */
class Kept {
  messages = new Map();
  leaf = null;
  isAway = false;
  room = Infinity;
  numRefusals = 0;

  async writeMessage(_chat, message, { leaf }) {
    if (this.isAway) throw new ApiError(Fault.UNREACHABLE);
    const isMissing = (id) => id !== null && id !== undefined && !this.messages.has(id) && id !== message.id;
    if (isMissing(message.parent) || isMissing(leaf) || this.messages.size >= this.room) this.#refuse();
    this.messages.set(message.id, message);
    this.leaf = leaf ?? this.leaf;
  }

  async write({ messages, leaf }) {
    if (messages.length > this.room) this.#refuse();
    this.messages = new Map(messages.map((message) => [message.id, message]));
    this.leaf = leaf;
  }

  #refuse() {
    this.numRefusals++;
    throw new ApiError(Fault.REFUSED, { status: 400, message: "no" });
  }
}

const NEVER = { onTrouble: assert.fail, onRecovery: assert.fail, onRefusal: assert.fail };

function asked() {
  const chat = new Chat();
  const question = chat.ask("q");
  return { chat, question, answer: chat.answer(question) };
}

test("a question is kept before its answer has begun, and the answer becomes the leaf", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, NEVER);
  await saver.now(chat, question);
  assert.equal(kept.leaf, question.id);
  answer.content = "a";
  await saver.now(chat, answer);
  assert.equal(kept.leaf, answer.id);
  assert.equal(kept.numRefusals, 0);
});

test("what could not be kept is kept later, in the order in which it hangs together", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  let numTroubles = 0;
  let numRecoveries = 0;
  const saver = new Saver(kept, { ...NEVER, onTrouble: () => numTroubles++, onRecovery: () => numRecoveries++ });
  kept.isAway = true;
  await saver.now(chat, question);
  await saver.now(chat, answer);
  assert.equal(numTroubles, 1, "told once");
  kept.isAway = false;
  await saver.flush();
  await saver.flush();
  assert.equal(numRecoveries, 1);
  assert.deepEqual([...kept.messages.keys()], [question.id, answer.id]);
});

test("a message on a branch that is not shown leaves the leaf alone", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, NEVER);
  await saver.now(chat, question);
  chat.ask("other", { parent: null });
  await saver.now(chat, answer);
  assert.equal(kept.leaf, question.id);
  assert.equal(kept.numRefusals, 0);
});

test("a message that was deleted meanwhile is not kept again", async () => {
  const { chat, question } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, NEVER);
  saver.soon(chat, question);
  saver.forget([question]);
  await saver.flush();
  assert.equal(kept.messages.size, 0);
});

test("saving is tried again by itself", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { chat, question } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, { ...NEVER, onTrouble: () => {}, onRecovery: () => {} });
  kept.isAway = true;
  await saver.now(chat, question);
  kept.isAway = false;
  mock.timers.tick(10_000);
  mock.timers.reset();
  await new Promise(setImmediate);
  assert.ok(kept.messages.has(question.id));
});

test("a chat that was deleted meanwhile is kept again as a whole", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  const saver = new Saver(kept, NEVER);
  await saver.now(chat, question);
  kept.messages.clear();
  answer.content = "a";
  await saver.now(chat, answer);
  assert.deepEqual([...kept.messages.keys()], [question.id, answer.id]);
  assert.equal(kept.leaf, answer.id);
});

test("a chat that the program refuses is refused once, and kept again when a part of it is deleted", async () => {
  const { chat, question, answer } = asked();
  const kept = new Kept();
  kept.room = 1;
  const told = [];
  const saver = new Saver(kept, { ...NEVER, onRefusal: (one, { message }) => told.push([one, message]) });
  await saver.now(chat, question);
  await saver.now(chat, answer);
  assert.deepEqual(told, [[chat, "no"]]);
  assert.ok(saver.isRefused(chat));
  const { numRefusals } = kept;
  await saver.now(chat, answer);
  await saver.flush();
  assert.equal(kept.numRefusals, numRefusals, "nothing more was sent");
  chat.remove(answer);
  await saver.saveWhole(chat);
  assert.ok(!saver.isRefused(chat));
  await saver.now(chat, question);
  assert.deepEqual([...kept.messages.keys()], [question.id]);
});
