// How streams are packed (ISO 32000-1, 7.4), as far as texts are: Flate with PNG's predictors, and bytes as text.

import { fromHex, latin, toBytes } from "./syntax.js";

const MAX_BYTES = 64_000_000; // of a stream; some are made to fill the memory

const FILTERS = new Map([
  ["FlateDecode", async (bytes, option) => unpredicted(await inflate(bytes), option)],
  ["ASCIIHexDecode", (bytes) => toBytes(fromHex(latin(bytes).split(">", 1)[0]))],
  ["ASCII85Decode", (bytes) => toBytes(fromAscii85(latin(bytes)))],
]);

/** Undo each of `steps`, `[name, option(key)]`; no bytes where one is not known. */
export async function decode(bytes, steps) {
  for (const [name, option] of steps) bytes = (await FILTERS.get(name)?.(bytes, option)) ?? new Uint8Array();
  return bytes;
}

/** What can be unpacked; a stream that is cut or followed by a line break gives what came before. */
async function inflate(bytes) {
  const chunks = [];
  let size = 0;
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (let part = await reader.read(); !part.done && size < MAX_BYTES; part = await reader.read()) {
      chunks.push(part.value);
      size += part.value.length;
    }
  } catch {
    // The end is missing or something follows it.
  }
  reader.cancel().catch(() => {});
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/**
 * Undo PNG's predictors (RFC 2083, 6): each row begins with how it differs from what is left of it or above. The kinds
 * that mix both are for pictures.
 */
function unpredicted(bytes, option) {
  if (!(option("Predictor") >= 10)) return bytes;
  const pixel = Math.ceil(((option("Colors") ?? 1) * (option("BitsPerComponent") ?? 8)) / 8);
  const width = Math.min(Math.max(pixel * (option("Columns") ?? 1), 1), bytes.length);
  const rows = new Uint8Array(Math.ceil(bytes.length / (width + 1)) * width);
  for (let from = 0, to = 0; from < bytes.length; from += width + 1, to += width) {
    for (let i = 0; i < width; i++) {
      const left = i < pixel ? 0 : rows[to + i - pixel];
      rows[to + i] = bytes[from + 1 + i] + ([0, left, rows[to + i - width]][bytes[from]] ?? 0);
    }
  }
  return rows;
}

function fromAscii85(text) {
  const digits = text
    .replace(/^\s*<~/, "")
    .split("~", 1)[0]
    .replaceAll("z", "!!!!!")
    .replace(/[^!-u]/g, "");
  const groups = digits.match(/.{1,5}/g) ?? [];
  return groups
    .map((group) => {
      const value = [...group.padEnd(5, "u")].reduce((sum, digit) => sum * 85 + digit.charCodeAt(0) - 33, 0);
      return String.fromCharCode(...[24, 16, 8, 0].slice(0, group.length - 1).map((shift) => (value >>> shift) & 255));
    })
    .join("");
}
