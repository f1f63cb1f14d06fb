// PDF's syntax (ISO 32000-1, 7.2 and 7.3), which page contents and character maps share. Pure.
//
// Bytes are given as a text with a character for each. Numbers become numbers, names texts without their slash, arrays
// arrays, dictionaries Maps, strings `{bytes}`, references `{ref}`, and everything else `{word, at}`, `at` being its end.

const TOKEN =
  /%[^\r\n]*|(\d+)\s+\d+\s+R\b|<<|>>|<[^<>]*>|\/[^\0\s()<>[\]{}/%]*|[[\](]|stream\r?\n?|ID\s.{0,9999}?\sEI(?!\S)|[^\0\s()<>[\]{}/%]+/gs;
const ESCAPE = /\\(?:([0-7]{1,3})|\r?\n|([\s\S]))/g;
const ESCAPES = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };

/** The values in a text, one after the other. */
export function* valuesIn(text, start = 0) {
  const tokens = new RegExp(TOKEN);
  tokens.lastIndex = start;
  const open = []; // arrays and dictionaries that have not ended
  for (let match = tokens.exec(text); match; match = tokens.exec(text)) {
    const [token, reference] = match;
    let value;
    if (token === "[" || token === "<<") open.push([]);
    else if (token === "]" || token === ">>") value = token === "]" ? open.pop() : dictionary(open.pop());
    else if (token === "(") {
      const end = endOfString(text, tokens.lastIndex);
      value = { bytes: unescaped(text.slice(tokens.lastIndex, end)) };
      tokens.lastIndex = end + 1;
    } else if (reference) value = { ref: Number(reference) };
    else if (token[0] === "<") value = { bytes: fromHex(token) };
    else if (token[0] === "/") value = token.slice(1);
    else if (/^[-+]?\.?\d/.test(token)) value = parseFloat(token);
    else if (token[0] !== "%") value = { word: token.trim(), at: tokens.lastIndex };
    if (value === undefined) continue;
    if (open.length > 0) open.at(-1).push(value);
    else yield value;
  }
}

function endOfString(text, at) {
  for (let depth = 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "(") depth++;
    else if (text[at] === ")" && --depth === 0) break;
  }
  return at;
}

function unescaped(text) {
  return text.replace(ESCAPE, (_, octal, letter = "") =>
    octal ? String.fromCharCode(parseInt(octal, 8) & 255) : (ESCAPES[letter] ?? letter),
  );
}

function dictionary(values = []) {
  const entries = new Map();
  for (let i = 0; i + 1 < values.length; i += 2) entries.set(values[i], values[i + 1]);
  return entries;
}

export function fromHex(text) {
  const pairs = text.replace(/[^\da-fA-F]/g, "").match(/..?/g) ?? [];
  return pairs.map((pair) => String.fromCharCode(parseInt(pair.padEnd(2, "0"), 16))).join("");
}

/** Bytes as a text with a character for each. */
export function latin(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  return text;
}

export function toBytes(text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
