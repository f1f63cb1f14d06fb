// Pieces of text on a page as lines and words. Pure.
//
// Programs write a page in the order in which it is read, column by column, so that order is kept, and places only say
// where a word or a line ends.

const WORD_GAP = 0.15; // of the size: the space between words is rarely less, kerning rarely more
const BACK = 1.5; // sizes: what begins as far to the left of the last one's end is another line
const LINE_SHIFT = 0.6; // of the size: what is higher or lower is another line, less is an index or a power

/** Return a page's text, a line of it on each line; words that were parted at a line's end are put together. */
export function layOut(pieces) {
  let text = "";
  let last = { angle: NaN };
  for (const piece of pieces) {
    const size = Math.max(piece.size, last.size);
    const gap = (piece.along - last.end) / size;
    const isTurned = !(Math.abs(piece.angle - last.angle) < 0.1);
    if (isTurned || Math.abs(piece.up - last.up) > LINE_SHIFT * size || gap < -BACK) text += "\n";
    else if (gap > WORD_GAP) text += " ";
    text += piece.text;
    last = piece;
  }
  const lines = text.split("\n").map((line) => line.replace(/\s+/g, " ").trim());
  return lines
    .filter(Boolean)
    .join("\n")
    .replace(/(\p{L})[-‐]\n(?=\p{Ll})/gu, "$1");
}
