// What the page shows of its bundle and of the program's state.

import { strings } from "../language/words.js";
import { Fault } from "../api/api.js";
import { pictureOf } from "./dialogs.js";
import { $, element } from "./dom.js";

const HERE = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Name, picture, welcome and suggestions; `onSuggestion(text)` when one is chosen. */
export function showFace(face, { onSuggestion }) {
  const name = face.name || face.model?.name || "";
  document.title = name || "holdall";
  $("bundle-name").textContent = name || "holdall";
  $("brand-picture").replaceChildren(pictureOf(face.icon, 30));
  $("welcome-picture").replaceChildren(pictureOf(face.icon, 72));
  $("welcome-title").textContent = face.welcome || strings.welcome;
  $("welcome-description").textContent = face.description || "";
  $("welcome-description").hidden = !face.description;
  const host = location.hostname;
  const model = name || strings.someModel;
  $("welcome-line").textContent = HERE.has(host) ? strings.welcomeHere(model) : strings.welcomeThere(model, host);
  const picture = pictureOf(face.icon, 1).src;
  if ($("favicon").href !== picture) $("favicon").href = picture;
  const suggestions = Array.isArray(face.suggestions) ? face.suggestions : [];
  $("suggestions").replaceChildren(
    ...suggestions.map((text) =>
      element("li", {}, element("button", { type: "button", dir: "auto", onclick: () => onSuggestion(text) }, String(text))),
    ),
  );
  $("no-history").hidden = face.has_history !== false;
  const why = face.history_problem;
  $("no-history").textContent = strings.noHistory + (why ? strings.noHistoryBecause(why) : "");
}

/** A line above the composer while the model is not ready: `readHealth`'s answer, or `{status: "locked", isWrong}`. */
export function showNotice(health) {
  const { status, progress = null } = health;
  const notice = $("notice");
  if (status === "ready") {
    notice.hidden = true;
    return;
  }
  const [title, hint, tone] = {
    gone: [strings.gone, strings.goneHint, "warning"],
    failed: [health.title ?? strings.unavailable, health.message ?? "", "danger"],
    loading: [strings.loading, strings.loadingWait, "calm"],
    locked: [health.isWrong ? strings.wrongKey : strings.locked, strings.lockedHint, "calm"],
  }[status];
  notice.dataset.tone = tone;
  // Read out when it comes, not with every percent.
  if (notice.hidden || $("notice-title").textContent !== title) $("announcer").textContent = title;
  $("notice-title").textContent = title;
  $("notice-hint").textContent = hint;
  $("notice-percent").textContent = progress === null ? "" : strings.percent(progress);
  $("progress").hidden = progress === null;
  if (progress !== null) $("progress").value = progress;
  $("key-form").hidden = status !== "locked";
  $("key").setAttribute("aria-invalid", String(health.isWrong === true));
  notice.hidden = false;
}

/** The page after its program: there is nothing left to do here but to come back. */
export function showEnd() {
  $("end-title").textContent = strings.quitDone;
  $("end-hint").textContent = strings.quitDoneHint;
  $("end").hidden = false;
  $("end-title").focus();
}

export function explain(error) {
  if (error.fault === Fault.UNREACHABLE) return strings.errorUnreachable;
  if (error.fault === Fault.BROKEN) return strings.broken;
  if (error.fault === Fault.LOCKED) return strings.locked;
  return strings.errorAnswer(error.message || strings.errorStatus(error.status));
}

/** Why a conversation is longer than the context; `isAlone` when it is but a question. */
export function explainFull({ numPromptTokens: needed, contextSize: room }, { isAlone }) {
  if (isAlone) return strings.errorTooLong;
  return needed && room ? strings.errorContextFullBy(needed, room) : strings.errorContextFull;
}
