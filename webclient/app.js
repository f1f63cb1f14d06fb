// The page begins here: it asks what the bundle is, watches the program, and puts the parts together.

import { fillInWords, strings } from "./language/words.js";
import { Notebook } from "./notebook/notebook.js";
import { ApiError, quit, readFace } from "./api/api.js";
import { KeptChats, PassingChats } from "./api/chats.js";
import { hasKey, setKey, whenKeyIsWanted } from "./api/key.js";
import { watchServer } from "./api/watch.js";
import { Presets } from "./settings/presets.js";
import { applyAppearance, openApi, openModelCard, openPreferences, openQuit } from "./ui/dialogs.js";
import { $, drawIcons, isTouch, on } from "./ui/dom.js";
import { explain, showEnd, showFace, showNotice } from "./ui/face.js";
import { Workspace } from "./workspace.js";

applyAppearance();
drawIcons();
fillInWords();

let face = {};
let health = { status: "gone" };
let lock = null; // `{isWrong}` while the program wants a key
let workspace = null;
let notebook = null;
const checkServer = watchServer(showHealth);
on(document, "visibilitychange", () => document.hidden || checkServer());
listen();

async function showHealth(now) {
  const before = health;
  health = now;
  if (before.status === "gone" && isUp() && workspace) $("announcer").textContent = strings.back;
  // Another program may have come back at this address; and facts about the model are known only when it is loaded.
  if (isUp() && (before.status !== now.status || !(workspace || lock))) await meet();
  else showState();
}

function isUp() {
  return health.status === "ready" || health.status === "loading";
}

function showState() {
  const canSend = isUp() && lock === null;
  showNotice(isUp() && lock ? { status: "locked", ...lock } : health);
  workspace?.setCanSend(canSend);
  notebook?.setCanWrite(canSend);
}

/** Learn what the bundle is, and whether it takes our key; what fails here is tried again with the next look at it. */
async function meet() {
  try {
    face = await readFace();
    lock = null;
    await showBundle();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
  showState();
}

async function showBundle() {
  showFace(face, { onSuggestion: (text) => workspace.ask(text) });
  if (workspace === null) {
    const chats = face.has_history ? new KeptChats() : new PassingChats();
    workspace = new Workspace({ chats, presets: new Presets(face.name ?? ""), face: () => face, checkServer });
    notebook = new Notebook(() => workspace.settings, explain);
    await workspace.open(location.hash.slice(1) || null);
  } else await workspace.refresh();
}

function listen() {
  whenKeyIsWanted((isWrong) => {
    const isNews = lock?.isWrong !== isWrong;
    lock = { isWrong };
    showState();
    if (isNews) $("key").focus(); // and not again while it is being typed
  });
  on("key-form", "submit", async (event) => {
    event.preventDefault();
    setKey($("key").value.trim());
    await meet();
    if (lock) $("key").select();
    else $("question").focus();
  });
  on(document.querySelector(".skip"), "click", (event) => {
    event.preventDefault(); // the address names the open chat
    placeToWrite().focus();
  });
  on("about-model", "click", () => openModelCard(face));
  on("open-api", "click", () => openApi(face.model?.name ?? face.name, hasKey()));
  on("open-preferences", "click", () =>
    openPreferences({
      onLanguage: () => {
        showFace(face, { onSuggestion: (text) => workspace.ask(text) });
        workspace?.redraw();
        showState();
      },
      onExport: () => workspace.exportAll(),
      onImport: (file) => workspace.import(file),
    }),
  );
  on("open-quit", "click", () => openQuit(face.has_history, end));
  on("open-settings", "click", () => togglePanel($("settings"), $("open-settings")));
  on("close-settings", "click", () => togglePanel($("settings"), $("open-settings")));
  on("open-menu", "click", () => setMenu(true));
  on("close-menu", "click", () => setMenu(false));
  on("scrim", "click", () => setMenu(false));
  on("sidebar", "click", ({ target }) => {
    if (target.closest(".open, #new-chat")) setMode("chat");
    if (target.closest(".open, #new-chat, .modes button")) setMenu(false);
  });
  for (const mode of ["chat", "notebook"]) on(`mode-${mode}`, "click", () => setMode(mode));
  on(document, "keydown", pressed);
}

function pressed(event) {
  if (event.isComposing) return;
  if (event.key === "Escape" && !$("dialog").open && !event.defaultPrevented) {
    if (document.body.classList.contains("has-menu")) setMenu(false);
    else if (notebook?.isRunning) notebook.stop();
    else if (workspace?.isAnswering) workspace.stop();
    else if (!$("settings").hidden) togglePanel($("settings"), $("open-settings"));
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    setMenu(true);
    $("search").focus();
  }
}

function togglePanel(panel, button) {
  panel.hidden = !panel.hidden;
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden) button.focus();
  else $("close-settings").focus();
}

/** The menu is beside the page where there is room, and over it where there is none. */
function setMenu(isOpen) {
  const isOver = getComputedStyle($("open-menu")).display !== "none";
  if (!isOver) return;
  const wasOpen = document.body.classList.contains("has-menu");
  document.body.classList.toggle("has-menu", isOpen);
  $("open-menu").setAttribute("aria-expanded", String(isOpen));
  $("main").inert = isOpen;
  if (isOpen) $("close-menu").focus();
  else if (wasOpen && !isTouch()) $("open-menu").focus();
}

function setMode(mode) {
  for (const each of ["chat", "notebook"]) {
    $(`mode-${each}`).setAttribute("aria-pressed", String(each === mode));
    $(`${each}-view`).hidden = each !== mode;
  }
  $("chat-title").hidden = mode !== "chat";
  $("notebook-title").hidden = mode === "chat";
  if (!isTouch()) placeToWrite().focus();
}

function placeToWrite() {
  return $("chat-view").hidden ? $("text") : $("question");
}

async function end() {
  try {
    await workspace?.rest();
    await quit();
    showEnd();
  } catch (error) {
    showNotice({ status: "failed", message: explain(error), title: strings.quitFailed });
  }
}
