import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { Asking } from "../../../webclient/conversation/asking.js";
import { Chat, End } from "../../../webclient/conversation/chat.js";

globalThis.sessionStorage = { getItem: () => null };
afterEach(() => mock.restoreAll());

/** Let the program answer every request with these pieces, or refuse; returns the requests' bodies. */
function programSays(...pieces) {
  const bodies = [];
  mock.method(globalThis, "fetch", async (_url, { body }) => {
    bodies.push(JSON.parse(body));
    if (pieces.length === 0) return Response.json({ error: { message: "no" } }, { status: 400 });
    const chunks = pieces.map((content) => ({ choices: [{ delta: { content } }] }));
    chunks.push({ choices: [{ delta: {}, finish_reason: "stop" }] });
    return new Response(chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join(""));
  });
  return bodies;
}

function workplace({ find = async () => [], face = {}, whenBegun = () => {} } = {}) {
  const events = [];
  const saver = { soon() {}, now() {}, forget: (messages) => events.push(`forget ${messages.length}`) };
  const chats = { removeMessage: async (_, id) => events.push(`remove ${id}`) };
  const asking = new Asking(
    { chats, saver, library: { find }, face: () => face },
    {
      onPrepare: () => events.push("prepare"),
      onBegin: (chat, { isNew }) => {
        events.push(isNew ? "begin new" : "begin");
        whenBegun(asking, chat);
      },
      onGrow: () => {},
      onEnd: (_, { end }) => events.push(end),
    },
  );
  return { asking, events };
}

const texts = ({ messages }) => messages.map(({ content }) => content);

test("a question is answered at the end of the chat, and only the first makes it new", async () => {
  const bodies = programSays("yes", "!");
  const { asking, events } = workplace({ face: { defaults: { system: "Be kind" } } });
  const chat = new Chat();
  await asking.ask(chat, "really?", []);
  await asking.ask(chat, "sure?", []);
  assert.deepEqual(
    chat.path.map(({ content }) => content),
    ["really?", "yes!", "sure?", "yes!"],
  );
  assert.deepEqual(texts(bodies[1]), ["Be kind", "really?", "yes!", "sure?"]);
  assert.deepEqual(events, ["begin new", End.DONE, "begin", End.DONE]);
});

test("nothing is asked while an answer is written or documents are looked up", async () => {
  programSays("yes");
  const found = Promise.withResolvers();
  const { asking, events } = workplace({
    find: () => found.promise,
    whenBegun: (asking, chat) => {
      assert.equal(asking.isRunning(chat.id), true);
      asking.ask(chat, "impatient", []);
      asking.answer(chat, chat.path[0]);
      asking.edit(chat, chat.path[0], "impatient");
    },
  });
  const chat = new Chat();
  const asked = asking.ask(chat, "what?", [{ kind: "document", name: "long", text: "…" }]);
  assert.equal(asking.isBusy(chat), true);
  assert.equal(asking.isRunning(chat.id), false);
  await asking.ask(chat, "impatient", []);
  found.resolve([]);
  await asked;
  assert.equal(chat.tree.all.length, 2);
  assert.deepEqual(events, ["prepare", "begin new", End.DONE]);
  assert.equal(asking.isBusy(chat), false);
});

test("documents of the whole branch are looked up, for as many passages as have room", async () => {
  programSays("yes");
  const calls = [];
  const find = async (question, documents, count) => {
    calls.push([question, documents.map(({ name }) => name), count]);
    return [{ kind: "passage", name: documents[0].name, text: "found" }];
  };
  const document = (name) => ({ kind: "document", name, text: "…" });
  for (const [n_ctx, count] of [
    [512, 1],
    [4096, 4],
    [131072, 8],
  ]) {
    const { asking } = workplace({ find, face: { model: { n_ctx } } });
    const chat = new Chat();
    await asking.ask(chat, "one", [document("a")]);
    await asking.ask(chat, "two", [document("b")]);
    assert.deepEqual(calls.splice(0), [
      ["one", ["a"], count],
      ["two", ["a", "b"], count],
    ]);
    const [, , question] = chat.path;
    assert.deepEqual(
      question.attachments.map(({ kind }) => kind),
      ["document", "passage"],
    );
    await asking.edit(chat, question, "other");
    assert.deepEqual(calls.splice(0), [["other", ["a", "b"], count]]);
    assert.equal(chat.path[2].attachments.length, 2, "the passages of the first version are not taken along");
    assert.equal(chat.tree.versions(question).length, 2);
  }
});

test("an answer that failed is asked for again, and nothing stays of one that never began", async () => {
  programSays();
  const { asking, events } = workplace();
  const chat = new Chat();
  await asking.ask(chat, "q", []);
  const failed = chat.path[1];
  assert.equal(failed.error.message, "no");
  mock.restoreAll();
  programSays("yes");
  await asking.retry(chat, failed);
  assert.equal(chat.tree.get(failed.id), null);
  assert.deepEqual(events, ["begin new", End.BROKEN, "forget 1", `remove ${failed.id}`, "begin", End.DONE]);
  assert.equal(chat.path[1].content, "yes");
});

test("an answer goes on where it ended", async () => {
  const bodies = programSays(" and more");
  const { asking } = workplace();
  const chat = new Chat();
  const answer = chat.answer(chat.ask("q"));
  Object.assign(answer, { content: "this", end: End.STOPPED });
  await asking.proceed(chat, answer);
  assert.equal(answer.content, "this and more");
  assert.deepEqual(texts(bodies[0]), ["q", "this"]);
  assert.equal(bodies[0].continue_final_message, true);
  assert.equal(bodies[0].add_generation_prompt, false);
});
