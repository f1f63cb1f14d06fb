// A font as far as its texts are read: which characters a string's codes are, and how wide (ISO 32000-1, 9.6 to 9.10).

import { toBytes, valuesIn } from "./syntax.js";

const MAX_RANGE = 65536;
const GLYPHS = named(
  "space   exclam ! quotedbl \" numbersign # dollar $ percent % ampersand & quotesingle ' quoteright ’ quoteleft ‘ " +
    "parenleft ( parenright ) asterisk * plus + comma , hyphen - minus − period . slash / zero 0 one 1 two 2 three 3 four 4 " +
    "five 5 six 6 seven 7 eight 8 nine 9 colon : semicolon ; less < equal = greater > question ? at @ bracketleft [ " +
    "backslash \\ bracketright ] guillemotleft « guillemotright » degree ° AE Æ OE Œ ae æ oe œ germandbls ß oslash ø Oslash Ø " +
    "dotlessi ı quotedblleft “ quotedblright ” quotedblbase „ bullet • ellipsis … endash – emdash — Euro €",
);
const ACCENTS = named("acute ́ grave ̀ circumflex ̂ dieresis ̈ tilde ̃ ring ̊ cedilla ̧ caron ̌");

/** Read a font's dictionary: a function from a string's bytes to glyphs, `{text, width, isSpace}`, widths in ems. */
export async function readFont(file, font) {
  const { texts, codeBytes } = readCharacterMap(await file.stream(file.get(font, "ToUnicode")));
  const isComposite = file.get(font, "Subtype") === "Type0";
  const textOf = isComposite ? () => "" : encodingOf(file, font); // a composite font's codes are but glyphs' numbers
  const widthOf = isComposite ? compositeWidths(file, file.list(font, "DescendantFonts")[0]) : simpleWidths(file, font);
  const size = isComposite && codeBytes !== 1 ? 2 : 1;
  return (bytes) =>
    (bytes.match(size === 1 ? /[\s\S]/g : /[\s\S]{2}/g) ?? []).map((part) => {
      const code = number(part);
      return { text: plain(texts.get(code) ?? textOf(code)), width: widthOf(code) || 0, isSpace: size === 1 && code === 32 };
    });
}

/** Ligatures as their letters, hyphens that may be hidden as those they are here, and no control characters. */
function plain(text) {
  return text
    .replace(/[ﬀ-ﬆ]/g, (ligature) => ligature.normalize("NFKD"))
    .replaceAll("\u00ad", "-")
    .replace(/(?!\s)\p{Cc}/gu, "");
}

/** A ToUnicode map: from codes to texts, and of how many bytes a code is. */
function readCharacterMap(source) {
  const texts = new Map();
  let codeBytes = 0;
  let operands = [];
  for (const value of valuesIn(source)) {
    if (!value.word) operands.push(value);
    else {
      if (value.word === "endcodespacerange") codeBytes = Math.max(codeBytes, ...operands.map(({ bytes }) => bytes?.length));
      const size = { endbfchar: 2, endbfrange: 3 }[value.word];
      for (let i = 0; i + size <= operands.length; i += size) addRange(texts, operands.slice(i, i + size));
      operands = [];
    }
  }
  return { texts, codeBytes };
}

/** Codes from the first to the last but one of `bounds`, and the text of the first of them or a list of texts. */
function addRange(texts, bounds) {
  const first = bounds.pop();
  const [low, high = low] = bounds.map(({ bytes = "" }) => number(bytes));
  for (let code = low; code <= Math.min(high, low + MAX_RANGE); code++) {
    const text = utf16(Array.isArray(first) ? first[code - low] : first);
    const shift = Array.isArray(first) ? 0 : code - low;
    texts.set(code, shift ? text.replace(/.$/su, (last) => character(last.codePointAt(0) + shift)) : text);
  }
}

function number(bytes) {
  return [...bytes].reduce((sum, byte) => sum * 256 + byte.charCodeAt(0), 0);
}

function utf16({ bytes = "" } = {}) {
  return bytes.length === 1 ? bytes : new TextDecoder("utf-16be").decode(toBytes(bytes));
}

function character(code) {
  return code <= 0x10ffff ? String.fromCodePoint(code) : "";
}

/** What a simple font's codes are when no map says so: its differences from an encoding. */
function encodingOf(file, font) {
  const encoding = file.get(font, "Encoding");
  const base = file.get(encoding, "BaseEncoding") ?? encoding;
  const decoder = new TextDecoder(base === "MacRomanEncoding" ? "macintosh" : "windows-1252");
  const differences = new Map();
  let code = 0;
  for (const entry of file.list(encoding, "Differences")) {
    if (typeof entry === "number") code = entry;
    else differences.set(code++, String(entry).split(".", 1)[0].split("_").map(glyphText).join(""));
  }
  return (code) => differences.get(code) ?? decoder.decode(Uint8Array.of(code));
}

/** The character that a glyph's name stands for, as in Adobe's list; "" when it is not known. */
function glyphText(name) {
  const code = /^u(?:ni)?([\dA-F]{4,6})$/.exec(name)?.[1];
  if (code) return character(parseInt(code, 16));
  const accent = ACCENTS.get(name.slice(1));
  if (accent) return (name[0] + accent).normalize();
  return GLYPHS.get(name) ?? (/^(?:[A-Za-z]|ff?[fil])$/.test(name) ? name : "");
}

/** Fonts that every reader has may leave their widths out: then any move to the right is a gap. */
function simpleWidths(file, font) {
  const first = file.get(font, "FirstChar");
  const widths = file.list(font, "Widths");
  const scale = file.list(font, "FontMatrix")[0] ?? 0.001;
  return (code) => widths[code - first] * scale;
}

function compositeWidths(file, font) {
  const widths = new Map();
  const entries = file.list(font, "W");
  for (let i = 0; i + 1 < entries.length; i += 2) {
    const [from, next] = [entries[i], entries[i + 1]];
    if (Array.isArray(next)) for (const [index, width] of next.entries()) widths.set(from + index, width);
    else {
      for (let code = from; code <= Math.min(next, from + MAX_RANGE); code++) widths.set(code, entries[i + 2]);
      i++;
    }
  }
  const standard = file.get(font, "DW") ?? 1000;
  return (code) => (widths.get(code) ?? standard) / 1000;
}

/** A map from "name character name character …". */
function named(list) {
  return new Map(Array.from(list.matchAll(/(\w{2,}) (.)/gu), ([, name, character]) => [name, character]));
}
