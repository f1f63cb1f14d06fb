// The page's dialogs: about the model, use from a program, preferences, quit.

import { LANGUAGES, chooseLanguage, strings } from "../language/words.js";
import { $, copyButton, element, on, pickFiles, textButton } from "./dom.js";
import { snippets } from "./snippets.js";

const APPEARANCE_KEY = "holdall.appearance.1";

/** Open a dialog with a title and a body; a click beside it closes it, as Escape does. */
export function openDialog(title, ...body) {
  const dialog = $("dialog");
  const close = () => dialog.close();
  $("dialog-title").textContent = title;
  $("dialog-close").setAttribute("aria-label", strings.close);
  $("dialog-close").onclick = close;
  $("dialog-body").replaceChildren(...body.filter(Boolean));
  dialog.onclick = (event) => event.target === dialog && close();
  if (!dialog.open) dialog.showModal();
  return close;
}

export function openModelCard(face) {
  const { model = {}, name, description, icon: picture, version } = face;
  const rows = [
    [strings.model, model.name],
    [strings.cardArchitecture, model.architecture],
    [strings.cardParameters, model.n_params && strings.short(model.n_params)],
    [strings.cardQuantization, model.quantization],
    [strings.cardSize, model.size_bytes && strings.size(model.size_bytes)],
    [strings.cardContext, model.n_ctx && strings.contextOf(model.n_ctx, model.n_ctx_train)],
    [strings.cardLicence, model.licence],
    [strings.cardOrigin, model.origin],
    [strings.cardVersion, version],
  ];
  const facts = rows.flatMap(([term, value]) => [element("dt", {}, term), element("dd", { dir: "auto" }, value || strings.unknown)]);
  openDialog(
    strings.aboutModel,
    element(
      "div",
      { class: "card-head" },
      pictureOf(picture, 56),
      element(
        "div",
        {},
        element("h3", { dir: "auto" }, name || model.name || strings.someModel),
        description && element("p", { class: "soft", dir: "auto" }, description),
      ),
    ),
    element("dl", { class: "facts" }, ...facts),
  );
}

/** The bundle's picture, else the program's own. Only data and our own file: the page fetches from nowhere else. */
export function pictureOf(picture, size) {
  const source = typeof picture === "string" && picture.startsWith("data:image/") ? picture : "icon.svg";
  return element("img", { src: source, alt: "", width: size, height: size, class: "picture" });
}

export function openApi(modelName, hasKey) {
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  const address = `${base}/v1`;
  const all = snippets(base, modelName || "model", hasKey ? "YOUR_KEY" : null);
  const names = Object.keys(all);
  const code = element("code");
  const box = element("pre", { tabIndex: 0, dir: "ltr", role: "tabpanel", id: "snippet" }, code);
  const tabs = names.map((name) =>
    element("button", { type: "button", role: "tab", "aria-controls": "snippet", onclick: () => show(name) }, name),
  );
  const show = (name) => {
    code.textContent = all[name];
    tabs.forEach((tab, index) => {
      const isChosen = names[index] === name;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
    });
    box.setAttribute("aria-label", name);
  };
  const list = element("div", { role: "tablist", "aria-label": strings.api, class: "tabs" }, ...tabs);
  on(list, "keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = tabs.at((tabs.indexOf(document.activeElement) + step) % tabs.length);
    next.focus();
    next.click();
  });
  show(names[0]);
  openDialog(
    strings.api,
    element("p", {}, `${strings.apiHint} ${hasKey ? strings.ownKey : strings.anyKey}`),
    element(
      "div",
      { class: "field" },
      element("label", { for: "base-url" }, strings.baseUrl),
      element(
        "div",
        { class: "row" },
        element("input", { id: "base-url", readOnly: true, value: address, dir: "ltr" }),
        copyButton(strings, () => address),
      ),
    ),
    list,
    element(
      "div",
      { class: "snippet" },
      box,
      copyButton({ copy: strings.copyCode, copied: strings.copied }, () => code.textContent),
    ),
  );
}

/** `handlers`: onLanguage(), onExport(), onImport(file). */
export function openPreferences(handlers) {
  const language = element(
    "select",
    { id: "language" },
    ...Object.entries(LANGUAGES).map(([code, { languageName }]) => element("option", { value: code, lang: code }, languageName)),
  );
  language.value = strings.language;
  on(language, "change", () => {
    chooseLanguage(language.value);
    handlers.onLanguage();
    openPreferences(handlers);
    $("language").focus();
  });
  const appearance = element(
    "select",
    { id: "appearance" },
    ...["System", "Light", "Dark"].map((each) => element("option", { value: each.toLowerCase() }, strings[`appearance${each}`])),
  );
  appearance.value = chosenAppearance();
  on(appearance, "change", () => {
    localStorage.setItem(APPEARANCE_KEY, appearance.value);
    applyAppearance();
  });
  const importFile = async () => {
    const [file] = await pickFiles({ accept: ".json,application/json" });
    if (file) handlers.onImport(file);
  };
  const keys = [
    [strings.keyNewLine, "Shift Enter"],
    [strings.keyStop, "Esc"],
    [strings.keyEditLast, "↑"],
    [strings.keySearch, "Ctrl K"],
  ];
  const field = (id, label, control) => element("div", { class: "field" }, element("label", { for: id }, label), control);
  openDialog(
    strings.preferences,
    field("language", strings.language_, language),
    field("appearance", strings.appearance, appearance),
    element("h3", {}, strings.yourChats),
    element(
      "div",
      { class: "row wrap" },
      textButton(strings.exportAll, handlers.onExport, { name: "save" }),
      textButton(strings.importChats, importFile, { name: "open" }),
    ),
    element("h3", {}, strings.keyboard),
    element(
      "dl",
      { class: "facts" },
      ...keys.flatMap(([what, key]) => [
        element("dt", {}, what),
        element("dd", {}, ...key.split(" ").map((each) => element("kbd", {}, each))),
      ]),
    ),
  );
}

export function openQuit(hasHistory, onQuit) {
  const quit = () => {
    close();
    onQuit();
  };
  const close = openDialog(
    strings.quitTitle,
    element("p", {}, hasHistory ? strings.quitHint : strings.quitHintNoHistory),
    element(
      "div",
      { class: "row to-end" },
      textButton(strings.cancel, () => close()),
      textButton(strings.quit, quit, { class: "strong" }),
    ),
  );
}

function chosenAppearance() {
  const chosen = localStorage.getItem(APPEARANCE_KEY);
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

export function applyAppearance() {
  const chosen = chosenAppearance();
  if (chosen === "system") delete document.documentElement.dataset.appearance;
  else document.documentElement.dataset.appearance = chosen;
}
