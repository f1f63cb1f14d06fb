// How much of an answer to show with each frame: pieces come in bursts, and a reader likes an even flow. Pure.

const CATCH_UP_MS = 160; // what waits is shown within about this time

/** Return how many of `numWaiting` characters to show after `elapsedMs`; never none, and soon all of them. */
export function numToShow(numWaiting, elapsedMs) {
  return Math.min(numWaiting, Math.max(1, Math.ceil((numWaiting * elapsedMs) / CATCH_UP_MS)));
}

/** Move a cut out of the middle of a character that is made of two units. */
export function wholeCharacters(text, end) {
  const unit = text.charCodeAt(end - 1);
  return unit >= 0xd800 && unit <= 0xdbff && end < text.length ? end + 1 : end;
}
