import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation, State } from "../../webclient/conversation.js";

function answered(conversation, question, answer, end = (exchange) => exchange.finish()) {
  const exchange = conversation.ask(question);
  exchange.append(answer);
  end(exchange);
  return exchange;
}

test("an answer grows by its pieces and then ends", () => {
  const exchange = new Conversation().ask("hello");
  assert.equal(exchange.state, State.WAITING);
  exchange.append("Hi ");
  assert.equal(exchange.state, State.STREAMING);
  exchange.append("there");
  exchange.finish();
  assert.equal(exchange.answer, "Hi there");
  assert.equal(exchange.state, State.DONE);
});

test("an empty piece is not yet an answer", () => {
  const exchange = new Conversation().ask("hello");
  exchange.append("");
  assert.equal(exchange.state, State.WAITING);
});

test("an answer that met a length limit is cut", () => {
  const exchange = new Conversation().ask("hello");
  exchange.finish({ isCut: true });
  assert.equal(exchange.state, State.CUT);
});

for (const [name, end, state] of [
  ["finished", (exchange) => exchange.finish(), State.DONE],
  ["stopped", (exchange) => exchange.stop(), State.STOPPED],
  ["failed", (exchange) => exchange.fail(new Error("gone")), State.FAILED],
]) {
  test(`what arrives after an answer has ${name} is ignored`, () => {
    const exchange = new Conversation().ask("hello");
    exchange.append("Hi");
    end(exchange);
    exchange.append(" late");
    exchange.finish({ isCut: true });
    exchange.stop();
    exchange.fail(new Error("late"));
    assert.equal(exchange.answer, "Hi");
    assert.equal(exchange.state, state);
  });
}

test("an exchange is open until its answer ends, also an earlier one that is tried again", () => {
  const conversation = new Conversation();
  assert.equal(conversation.openExchange, null);
  const first = conversation.ask("hello");
  assert.equal(conversation.openExchange, first);
  first.fail(new Error("gone"));
  assert.equal(conversation.openExchange, null);
  conversation.ask("and?").stop();
  first.reopen();
  assert.equal(conversation.openExchange, first);
});

test("messages carry the whole history in order, stopped and cut answers included", () => {
  const conversation = new Conversation();
  answered(conversation, "q1", "a1");
  answered(conversation, "q2", "a2", (exchange) => exchange.stop());
  answered(conversation, "q3", "a3", (exchange) => exchange.finish({ isCut: true }));
  assert.deepEqual(conversation.messagesFor(conversation.ask("q4")), [
    { role: "user", content: "q1" },
    { role: "assistant", content: "a1" },
    { role: "user", content: "q2" },
    { role: "assistant", content: "a2" },
    { role: "user", content: "q3" },
    { role: "assistant", content: "a3" },
    { role: "user", content: "q4" },
  ]);
});

test("two user messages never follow each other", () => {
  const conversation = new Conversation();
  conversation.ask("stopped before a word").stop();
  answered(conversation, "failed half way", "half", (exchange) => exchange.fail(new Error("gone")));
  assert.deepEqual(conversation.messagesFor(conversation.ask("now")), [{ role: "user", content: "now" }]);
});

test("a failed question is asked again with the history before it and nothing of its own answer", () => {
  const conversation = new Conversation();
  answered(conversation, "q1", "a1");
  const failed = answered(conversation, "q2", "half", (exchange) => exchange.fail(new Error("gone")));
  answered(conversation, "q3", "a3");
  failed.reopen();
  assert.equal(failed.answer, "");
  assert.equal(failed.error, null);
  assert.equal(failed.isOpen, true);
  assert.deepEqual(conversation.messagesFor(failed).map((message) => message.content), ["q1", "a1", "q2"]);
});
