// The key that the program may ask for (`--api-key`). Kept by the browser for this tab's session and no longer.

const NAME = "holdall.key.1";
let onRefused = () => {};

/** Call `listener(isWrong)` when the program wants a key; `isWrong`: the one that was sent is none of its keys. */
export function whenKeyIsWanted(listener) {
  onRefused = listener;
}

export function setKey(key) {
  sessionStorage.setItem(NAME, key);
}

export function hasKey() {
  return sessionStorage.getItem(NAME) !== null;
}

/** The headers with which a request shows the key. Headers are bytes, each written as a character. */
export function keyHeaders() {
  if (!hasKey()) return {};
  const bytes = new TextEncoder().encode(sessionStorage.getItem(NAME));
  return { Authorization: `Bearer ${String.fromCharCode(...bytes)}` };
}

/** A request was refused for want of a key. */
export function noteRefusal() {
  onRefused(hasKey());
}
