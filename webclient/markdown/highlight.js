// Colours for code, line by line: comments, texts, numbers, keywords, names that are called. Pure.
//
// This knows a language by its comments, quotes and keywords and parses nothing, which is right for nearly all of what
// a model writes and cheap enough to run while it is written. A line's result depends on the line and the state that
// the line before left, so a growing block costs only its last line.

const words = (list) => new Set(list.split(" "));
const SHARED = // by JavaScript and the other languages with braces
  "break case catch class const continue default delete do else enum export extends false finally for if implements import in " +
  "interface let new null return static super switch this throw true try type var void while yield readonly private public " +
  "protected abstract namespace string boolean";
const C_LIKE = { line: "//", block: ["/*", "*/"], quotes: "\"'" };
const LANGUAGES = {
  javascript: {
    ...C_LIKE,
    quotes: "\"'`",
    long: ["`"],
    keywords: words(
      `${SHARED} as async await debugger from function get instanceof of set typeof undefined declare keyof number any never unknown`,
    ),
  },
  python: {
    line: "#",
    quotes: "\"'",
    long: ['"""', "'''"],
    keywords: words(
      "and as assert async await break case class continue def del elif else except False finally for from global if import in is " +
        "lambda match None nonlocal not or pass raise return self True try while with yield",
    ),
  },
  c: {
    ...C_LIKE,
    keywords: words(
      SHARED +
        " alignas auto base bool byte char constexpr decimal defer double explicit extern final float fn foreach friend func fun go " +
        "goto impl include inline int internal is long loop match mod move mut nil nullptr object operator out override package pub " +
        "range ref register select self short signed sizeof struct suspend synchronized template throws trait typedef typename " +
        "union unsigned unsafe use using val virtual volatile when where i8 i16 i32 i64 u8 u16 u32 u64 usize isize f32 f64 str " +
        "String chan map error guard define ifdef ifndef endif pragma",
    ),
  },
  shell: {
    line: "#",
    quotes: "\"'",
    keywords: words(
      "if then else elif fi for while until do done case esac in function return exit break continue local export readonly declare " +
        "set unset shift source alias echo cd sudo true false",
    ),
  },
  sql: {
    line: "--",
    block: ["/*", "*/"],
    quotes: "'\"",
    isCaseless: true,
    keywords: words(
      "add all alter and any as asc begin between by case cast check column commit constraint create cross database default delete " +
        "desc distinct drop else end exists false foreign from full group having if in index inner insert integer int into is join key " +
        "left like limit not null offset on or order outer primary references right rollback select set table text then true union " +
        "unique update values varchar view when where with",
    ),
  },
  data: { line: "#", quotes: "\"'", keywords: words("true false null yes no on off") },
  json: { quotes: '"', keywords: words("true false null") },
  css: { block: ["/*", "*/"], quotes: "\"'", keywords: words("important media supports keyframes import from to") },
  markup: { block: ["<!--", "-->"], quotes: "\"'", isMarkup: true, keywords: new Set() },
  lua: {
    line: "--",
    quotes: "\"'",
    keywords: words(
      "and break do else elseif end false for function goto if in local nil not or repeat return then true until while module where " +
        "let data of instance deriving",
    ),
  },
  ruby: {
    line: "#",
    quotes: "\"'",
    keywords: words(
      "alias and begin break case class def defined do else elsif end ensure false for if in module next nil not or puts redo " +
        "require rescue retry return self super then true undef unless until when while yield library",
    ),
  },
};
const NAMES = {
  javascript: "js jsx ts tsx typescript mjs node",
  python: "py python3 gyp",
  c: "cpp c++ cc h hpp java cs csharp c# go golang rust rs swift kotlin kt scala php dart objc zig glsl proto groovy",
  shell: "sh bash zsh console shell-session fish powershell ps1 dockerfile makefile make",
  sql: "mysql postgresql postgres sqlite plsql",
  data: "yaml yml toml ini conf properties env cfg",
  json: "jsonc json5 jsonl",
  css: "scss less",
  markup: "html xml svg xhtml vue",
  lua: "haskell hs elm",
  ruby: "rb elixir ex perl pl r julia jl",
};
const BY_NAME = new Map();
for (const [name, others] of Object.entries(NAMES)) {
  for (const other of [name, ...others.split(" ")]) BY_NAME.set(other, LANGUAGES[name]);
}

const NUMBER = /(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)[a-zA-Z%]*/y;
const NAME = /[\p{L}_$@][\p{L}\p{N}_$]*/uy;
const MAX_LINE = 2000; // a longer one is data rather than code

/** The language that a fence names, or null when there is none to colour. */
export function languageNamed(name) {
  return BY_NAME.get(name.toLowerCase()) ?? null;
}

/**
 * Colour one line. `state` is what the line before left, null at first: the end that a long text or comment waits for.
 * Return `{tokens: [[kind, text]], state}`; the texts make up the line, and `kind` "" is plain.
 */
export function highlightLine(language, line, state) {
  if (language === null || line.length > MAX_LINE) return { tokens: line === "" ? [] : [["", line]], state };
  const tokens = [];
  const push = (kind, text) => {
    if (text === "") return;
    if (tokens.at(-1)?.[0] === kind) tokens.at(-1)[1] += text;
    else tokens.push([kind, text]);
  };
  let at = 0;
  if (state !== null) {
    const end = line.indexOf(state.end);
    if (end < 0) return { tokens: line === "" ? [] : [[state.kind, line]], state };
    at = end + state.end.length;
    push(state.kind, line.slice(0, at));
    state = null;
  }
  while (at < line.length) {
    if (isLineComment(language, line, at)) {
      push("comment", line.slice(at));
      break;
    }
    const long = opening(language, line, at);
    if (long) {
      const end = line.indexOf(long.end, at + long.start.length);
      if (end < 0) {
        push(long.kind, line.slice(at));
        state = { kind: long.kind, end: long.end };
        break;
      }
      push(long.kind, line.slice(at, end + long.end.length));
      at = end + long.end.length;
      continue;
    }
    const [kind, length] = tokenAt(language, line, at);
    push(kind, line.slice(at, at + length));
    at += length;
  }
  return { tokens, state };
}

function isLineComment({ line: mark }, line, at) {
  // In shells "#" begins a comment only after a space: ${#name}, a#b.
  return mark !== undefined && line.startsWith(mark, at) && (mark !== "#" || at === 0 || /\s/.test(line[at - 1]));
}

function opening({ block, long = [] }, line, at) {
  if (block && line.startsWith(block[0], at)) return { kind: "comment", start: block[0], end: block[1] };
  const start = long.find((mark) => line.startsWith(mark, at));
  return start ? { kind: "string", start, end: start } : null;
}

function tokenAt(language, line, at) {
  const character = line[at];
  if (language.quotes.includes(character)) {
    const length = textLength(line, at, character);
    return [length > 1 ? "string" : "", length];
  }
  if (language.isMarkup && character === "<") {
    const tag = /^<[/!?]?[\w:-]*/.exec(line.slice(at, at + 100));
    return ["keyword", tag[0].length];
  }
  if (/\d/.test(character)) return ["number", matchLength(NUMBER, line, at) || 1];
  const nameLength = matchLength(NAME, line, at);
  if (nameLength === 0) return ["", 1];
  const name = line.slice(at, at + nameLength);
  const known = language.isCaseless ? name.toLowerCase() : name;
  if (language.keywords.has(known)) return ["keyword", nameLength];
  return [line[at + nameLength] === "(" ? "call" : "", nameLength];
}

/** The length of a quoted text; one that does not end on its line is an apostrophe, alone. */
function textLength(line, start, quote) {
  for (let at = start + 1; at < line.length; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === quote) return at + 1 - start;
  }
  return 1;
}

function matchLength(pattern, line, at) {
  pattern.lastIndex = at;
  return pattern.exec(line)?.[0].length ?? 0;
}
