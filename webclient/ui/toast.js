// A short word at the page's foot, with a way back where something was undone or deleted.

import { $, element, textButton } from "./dom.js";

const SHOWN_MS = 7000;
let timer = null;

/** Say `words` for a while; `action` is `{label, run}`. */
export function toast(words, action = null) {
  const box = element("div", { class: "toast" }, element("span", {}, words));
  if (action) {
    box.append(
      textButton(action.label, () => {
        hide();
        action.run();
      }),
    );
  }
  $("toasts").replaceChildren(box);
  clearTimeout(timer);
  timer = setTimeout(hide, SHOWN_MS);
}

function hide() {
  $("toasts").replaceChildren();
}
