// A long text in passages of a size that can be looked up and quoted; each ends where a thought does, if it can. Pure.

const SIZE = 1000;
const LEAST = 400;
const BREAKS = [/\n[ \t]*\n/g, /\n/g, /[.!?…。！？]["'”’»)]*\s/g, /\s/g]; // best first

export function splitPassages(text) {
  const passages = [];
  let start = 0;
  while (start < text.length) {
    const end = start + SIZE >= text.length ? text.length : endNear(text, start);
    const passage = text.slice(start, end).trim();
    if (passage !== "") passages.push(passage);
    start = end;
  }
  return passages;
}

/** The last good place to end a passage that begins at `start`. */
function endNear(text, start) {
  const window = text.slice(start + LEAST, start + SIZE);
  for (const pattern of BREAKS) {
    const last = [...window.matchAll(pattern)].at(-1);
    if (last) return start + LEAST + last.index + last[0].length;
  }
  return start + SIZE;
}
