// The language that the page speaks: the reader's choice, else the browser's, else English.
//
// `strings` keeps its identity when the language changes, so that modules may hold on to it.

import en from "./en.js";
import fr from "./fr.js";

export const LANGUAGES = { en, fr };
const KEY = "holdall.language.1"; // in the browser: it is about who reads here, not about a bundle

export const strings = { ...LANGUAGES[firstLanguage()] };

export function chooseLanguage(code) {
  Object.assign(strings, LANGUAGES[code]);
  localStorage.setItem(KEY, code);
  fillInWords();
}

/** Put the words into the elements that name them: data-text fills one, data-label names it, data-hint hints. */
export function fillInWords(root = document) {
  document.documentElement.lang = strings.language;
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = strings[node.dataset.text];
  for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = strings[node.dataset.hint];
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", strings[node.dataset.label]);
    if (node instanceof HTMLButtonElement) node.title = strings[node.dataset.label];
  }
}

function firstLanguage() {
  const wanted = [localStorage.getItem(KEY), ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return wanted.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en";
}
