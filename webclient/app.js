// The page's life: watch the server, ask, show the answer as it comes, stop, start over.

import { ApiError, Fault, readModelName, streamAnswer } from "./api.js";
import { Conversation, State } from "./conversation.js";
import { strings } from "./strings.js";
import { View } from "./view.js";
import { watchServer } from "./watch.js";

let conversation = new Conversation();
let request = new AbortController();
let modelName = "";
let wasAway = true; // also at the start: the name has yet to be asked for

const view = new View({ onAsk: ask, onStop: stop, onNewChat: newChat, onRemedy: remedy });
view.showModelName(modelName);
const checkServer = watchServer(showHealth);
document.addEventListener("visibilitychange", () => document.hidden || checkServer());

async function showHealth(health) {
  view.setCanSend(health.status === "ready" || health.status === "loading");
  if (health.status === "ready") view.hideNotice();
  else view.showNotice(noticeFor(health));

  if (health.status === "gone") wasAway = true;
  else if (wasAway || modelName === "") {
    if (wasAway && modelName !== "") view.announce(strings.back);
    // Another program may have come back at this address, with another model.
    modelName = await readModelName().catch(() => modelName);
    wasAway = false;
    view.showModelName(modelName);
  }
}

function noticeFor({ status, progress, message }) {
  if (status === "gone") return { title: strings.gone, hint: strings.goneHint, tone: "warning" };
  if (status === "failed") return { title: strings.unavailable, hint: message, tone: "danger" };
  return { title: strings.loading, hint: strings.loadingWait, progress };
}

function ask(question) {
  const exchange = conversation.ask(question);
  view.addExchange(exchange);
  answer(exchange);
}

async function answer(exchange) {
  const messages = conversation.messagesFor(exchange);
  const { signal } = (request = new AbortController());
  view.setAnswering(true);
  view.announce(strings.answering);
  try {
    const end = await streamAnswer(messages, {
      signal,
      onPiece(piece) {
        exchange.append(piece);
        view.updateExchangeSoon(exchange);
      },
    });
    exchange.finish(end);
  } catch (error) {
    if (signal.aborted) return; // whoever aborted has told the exchange and the page
    exchange.fail(error);
    checkServer();
    if (!(error instanceof ApiError)) reportError(error); // ours: shown to the reader, and to the console
  }
  settle(exchange);
}

function stop() {
  const exchange = conversation.openExchange;
  if (exchange === null) return;
  request.abort();
  exchange.stop();
  settle(exchange);
}

function settle(exchange) {
  view.updateExchange(exchange, exchange.state === State.FAILED ? troubleOf(exchange.error) : null);
  view.setAnswering(false);
  view.announce(exchange.answer);
  view.focusQuestion();
}

function newChat() {
  request.abort();
  conversation = new Conversation();
  view.clear();
  view.setAnswering(false);
  view.focusQuestion();
}

/** What the button beside a failed answer does: a full context cannot be helped by asking again. */
function remedy(exchange) {
  if (exchange.error.fault === Fault.CONTEXT_FULL) return newChat();
  if (conversation.openExchange !== null) return;
  exchange.reopen();
  view.updateExchange(exchange);
  answer(exchange);
}

function troubleOf(error) {
  switch (error.fault) {
    case Fault.CONTEXT_FULL:
      return { words: contextFullWords(error), remedy: strings.newChat };
    case Fault.UNREACHABLE:
      return { words: strings.errorUnreachable, remedy: strings.tryAgain };
    case Fault.BROKEN:
      return { words: strings.errorBroken, remedy: strings.tryAgain };
    default:
      return {
        words: strings.errorAnswer(error.message || strings.errorStatus(error.status)),
        remedy: strings.tryAgain,
      };
  }
}

function contextFullWords({ numPromptTokens, contextSize }) {
  if (conversation.exchanges.length === 1) return strings.errorTooLong;
  if (numPromptTokens === null || contextSize === null) return strings.errorContextFull;
  return strings.errorContextFullBy(numPromptTokens, contextSize);
}
