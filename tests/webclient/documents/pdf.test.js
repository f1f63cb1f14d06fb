import assert from "node:assert/strict";
import { test } from "node:test";

import { readPdf } from "../../../webclient/documents/pdf.js";
import { characterMap, deflated, fromBytes, lines, predicted, toBytes, updated, Writer } from "./writer.js";

async function textOf(bytes) {
  const { text, trouble } = await readPdf(bytes);
  assert.equal(trouble, null);
  return text;
}

async function troubleOf(bytes) {
  const { text, trouble } = await readPdf(bytes);
  assert.equal(text, "");
  return trouble;
}

/** The text of a page with this content, and this font as F2. */
function shown(content, { font, ...rest } = {}) {
  const pdf = new Writer();
  pdf.page(content, { ...rest, fonts: font ? { F2: font(pdf) } : {} });
  return textOf(pdf.file());
}

/** A simple font with an encoding, its characters all half as wide as high. */
const simple = (encoding, entries = "") => {
  const widths = `/FirstChar 0/Widths[${"500 ".repeat(256)}]`;
  return (pdf) => pdf.add(`<</Type/Font/Subtype/TrueType/BaseFont/ABCDEF+Some/Encoding ${encoding}${widths}${entries}>>`);
};

/** A composite font whose codes are glyphs' numbers, with a map to characters or without. */
const composite = (map, descendant = "/DW 500") => {
  return (pdf) => {
    const inner = pdf.add(`<</Type/Font/Subtype/CIDFontType2/BaseFont/ABCDEF+Some${descendant}>>`);
    const toUnicode = map ? `/ToUnicode ${pdf.flate(characterMap(map))} 0 R` : "";
    return pdf.add(`<</Type/Font/Subtype/Type0/Encoding/Identity-H/DescendantFonts[${inner} 0 R]${toUnicode}>>`);
  };
};

test("a plain file, compressed or not", async () => {
  const pdf = new Writer();
  pdf.page(pdf.stream(lines([72, 700, "Plain \\(as it\\\nwere\\) \\101"])));
  pdf.page("BT /F1 12 Tf 72 700 Td (Packed) Tj 0 -14 Td (Second \\\\line) Tj ET");
  assert.equal(await textOf(pdf.file()), "Plain (as itwere) A\n\nPacked\nSecond \\line");
});

test("object streams and reference streams", async () => {
  const pdf = new Writer();
  pdf.page(lines([72, 700, "All is packed"]));
  pdf.page(lines([72, 700, "here"]));
  const bytes = pdf.packedFile();
  assert.doesNotMatch(fromBytes(bytes), /\/Catalog|\/Page\b/);
  assert.equal(await textOf(bytes), "All is packed\n\nhere");
});

test("a change at the end of a file holds, be what it changes packed or not", async () => {
  for (const kind of ["file", "packedFile"]) {
    const pdf = new Writer();
    const content = pdf.stream(lines([72, 700, "old"]));
    const page = pdf.page(content);
    pdf.page(lines([72, 700, "stays"]));
    const before = pdf[kind]();
    const body = (text) => `<</Length ${text.length}>>\nstream\n${text}\nendstream`;
    const changed = updated(before, [[content, body(lines([72, 700, "new"]))]], "");
    assert.equal(await textOf(changed), "new\n\nstays");
    const [font] = [`/Font<</F1 ${pdf.helvetica} 0 R>>`];
    const dictionary = `<</Type/Page/Parent 1 0 R/Resources<<${font}>>/Contents 99 0 R>>`;
    const again = updated(
      changed,
      [
        [99, body(lines([72, 700, "newer"]))],
        [page, dictionary],
      ],
      "",
    );
    assert.equal(await textOf(again), "newer\n\nstays");
  }
});

test("an object stream that came later holds against a plain object before it", async () => {
  const pdf = new Writer();
  const content = pdf.stream(lines([72, 700, "old"]));
  const page = pdf.page(content);
  const inner = `<</Type/Page/Resources<</Font<</F1 ${pdf.helvetica} 0 R>>>>/Contents 98 0 R>>`;
  const head = `${page} 0\n`;
  const container = `<</Type/ObjStm/N 1/First ${head.length}/Length ${head.length + inner.length}>>\nstream\n${head}${inner}\nendstream`;
  const text = lines([72, 700, "new"]);
  const objects = [
    [98, `<</Length ${text.length}>>\nstream\n${text}\nendstream`],
    [97, container],
  ];
  assert.equal(await textOf(updated(pdf.file(), objects, "")), "new");
});

for (const [name, font, codes, expected] of [
  ["WinAnsi", simple("/WinAnsiEncoding"), "caf\\351 \\223x\\224 \\200 na\\357ve", "café “x” € naïve"],
  ["MacRoman", simple("/MacRomanEncoding"), "caf\\216 \\322x\\323 \\333", "café “x” €"],
  ["MacRoman's ligatures", simple("/MacRomanEncoding"), "\\336nd \\337ow", "find flow"],
  ["differences", simple("<</Differences[1/T/eacute/quoteright/uni0416/a.alt 65/Ccaron/Euro]>>"), "\\001\\002\\003\\004\\005AB", "Té’ЖaČ€"],
  ["differences from MacRoman", simple("<</BaseEncoding/MacRomanEncoding/Differences[1/fi]>>"), "\\001n \\216", "fin é"],
  [
    "ligatures by name",
    simple("<</Differences[1/fi/fl/ff/ffi/f_f_l]>>"),
    "\\001x \\002y o\\003 o\\004ce wa\\005e",
    "fix fly off office waffle",
  ],
  ["names that nobody knows", simple("<</Differences[1/g27/.notdef]>>"), "a\\001\\002b", "ab"],
]) {
  test(`an encoding: ${name}`, async () => assert.equal(await shown(`BT /F2 10 Tf (${codes}) Tj ET`, { font }), expected));
}

for (const [name, map, hex, expected] of [
  [
    "characters",
    {
      characters: [
        ["0003", "0048"],
        ["0004", "00E9"],
      ],
    },
    "00030004",
    "Hé",
  ],
  ["ranges", { ranges: [["0010", "0029", "0041"]] }, "001000110029", "ABZ"],
  ["ranges with a list", { ranges: [["0001", "0003", ["0066", "00660069", "FB02"]]] }, "000100020003", "ffifl"],
  ["beyond the first plane", { characters: [["0001", "D83DDE00"]], ranges: [["0002", "0003", "D835DC00"]] }, "000100020003", "😀𝐀𝐁"],
  [
    "ligatures",
    {
      characters: [
        ["0001", "FB01"],
        ["0002", "006600660069"],
      ],
    },
    "00010002",
    "fiffi",
  ],
  ["codes of one byte", { codes: "<00><FF>", characters: [["41", "0042"]] }, "4141", "BB"],
  ["a range without end", { ranges: [["0000", "FFFFFFFF", "0041"]] }, "0001", "B"],
]) {
  test(`glyphs' numbers with a map: ${name}`, async () => {
    assert.equal(await shown(`BT /F2 10 Tf <${hex}> Tj ET`, { font: composite(map) }), expected);
  });
}

test("a simple font's map comes before its encoding, and its codes stay single bytes", async () => {
  const font = (pdf) => {
    const map = pdf.flate(characterMap({ characters: [["41", "03B1"]] }));
    return simple("/WinAnsiEncoding", `/ToUnicode ${map} 0 R`)(pdf);
  };
  assert.equal(await shown("BT /F2 10 Tf (ABA) Tj ET", { font }), "αBα");
});

test("two columns are read one after the other", async () => {
  const left = [
    "The left column begins",
    "and goes on for a while,",
    "as columns do in papers,",
    "until its end is there,",
    "at the foot of the page.",
  ];
  const right = [
    "Then the right one has",
    "its turn, with more lines",
    "that stand at the side of",
    "those in the left column",
    "and end the page at last.",
  ];
  const expected = ["A heading across both of the columns of this page", ...left, ...right].join("\n");
  const at = (x) => (text, index) => [x, 700 - 12 * index, text];
  const font = simple("/WinAnsiEncoding");
  const content = (texts) => lines([72, 730, "A heading across both of the columns of this page"], ...texts).replaceAll("/F1", "/F2");
  const one = left.map(at(72));
  const other = right.map(at(320));
  assert.equal(await shown(content([...one, ...other]), { font }), expected);
});

test("a table stays a table", async () => {
  const rows = [
    ["Name", "Price"],
    ["Tea", "1.20"],
    ["Coffee", "2.40"],
    ["Milk", "0.80"],
    ["Bread", "3.10"],
  ];
  const cells = rows.flatMap(([name, price], index) => [
    [72, 700 - 12 * index, name],
    [300, 700 - 12 * index, price],
  ]);
  const content = lines(...cells).replaceAll("/F1", "/F2");
  assert.equal(await shown(content, { font: simple("/WinAnsiEncoding") }), rows.map((row) => row.join(" ")).join("\n"));
});

test("kerning parts no word, and a space that is but a gap does", async () => {
  const content = "BT /F2 10 Tf [(W) 80 (A) -20 (VE) -300 (f) 15 (orm)] TJ ET";
  assert.equal(await shown(content, { font: simple("/WinAnsiEncoding") }), "WAVE form");
  assert.equal(await shown(content.replace("F2", "F1")), "WAVE form");
});

test("characters and words that are placed one by one", async () => {
  const place = (x, text) => `1 0 0 1 ${x} 700 Tm (${text}) Tj`;
  const letters = `BT /F2 10 Tf ${place(72, "w")} ${place(77, "o")} ${place(82, "r")} ${place(87, "d")} ${place(95, "s")} ET`;
  assert.equal(await shown(letters, { font: simple("/WinAnsiEncoding") }), "word s");
  const words = "BT /F2 10 Tf 72 700 Td (two) Tj 18 0 Td (words) Tj ET";
  assert.equal(await shown(words, { font: simple("/WinAnsiEncoding") }), "two words");
  assert.equal(await shown(words.replace("F2", "F1")), "two words");
  const map = { ranges: [["0001", "001A", "0061"]] };
  const wide = "BT /F2 10 Tf 72 700 Td <0001> Tj 3 0 Td <0002> Tj 9 0 Td <0003> Tj 11 0 Td <0004> Tj ET";
  assert.equal(await shown(wide, { font: composite(map, "/DW 500/W[1[300] 2 3 900]") }), "abc d");
});

test("words parted at a line's end are put together, names and lists are not", async () => {
  const content = lines(
    [72, 700, "An exam-"],
    [72, 688, "ple of Jean-"],
    [72, 676, "Paul, hy\\255"],
    [72, 664, "phenated 1-"],
    [72, 652, "x"],
  );
  assert.equal(await shown(content), "An example of Jean-\nPaul, hyphenated 1-\nx");
});

test("lines by every operator that moves", async () => {
  const content = `BT /F1 10 Tf 12 TL 72 700 Td (one) Tj T* (two) Tj (three) ' 1 2 (four) " 0 -14 TD (five) Tj T* (six) Tj
    1 0 0 1 72 600 Tm (seven) Tj 26 4 Td /F1 6 Tf (8) Tj ET q 1 0 0 1 0 -30 cm BT /F1 10 Tf 72 600 Td (nine) Tj ET Q`;
  assert.equal(await shown(content), "one\ntwo\nthree\nfour\nfive\nsix\nseven 8\nnine");
});

test("spacing, stretching and scaling belong to the widths", async () => {
  const font = simple("/WinAnsiEncoding");
  const begin = "BT /F2 10 Tf 1 0 0 1 72 700 Tm";
  assert.equal(await shown(`${begin} 2 Tc (ab) Tj 14 0 Td (cd) Tj ET`, { font }), "abcd");
  assert.equal(await shown(`${begin} 10 Tw (a b) Tj 25 0 Td (cd) Tj ET`, { font }), "a bcd");
  assert.equal(await shown(`${begin} 50 Tz (ab) Tj 5 0 Td (cd) Tj ET`, { font }), "abcd");
  assert.equal(await shown("BT /F2 1 Tf 10 0 0 10 72 700 Tm (ab) Tj 1 0 Td (cd) Tj ET", { font }), "abcd");
  assert.equal(await shown("q .5 0 0 .5 0 0 cm BT /F2 20 Tf 72 700 Td (ab) Tj 20 0 Td (cd) Tj ET Q", { font }), "abcd");
});

test("a page that is turned, by its entry or by its text", async () => {
  const entries = "/Rotate 90";
  assert.equal(await shown(lines([72, 700, "one"], [72, 688, "two"]), { entries }), "one\ntwo");
  const turned = "BT /F2 10 Tf 0 1 -1 0 100 72 Tm (one) Tj 20 0 Td (more) Tj 0 1 -1 0 112 72 Tm (two) Tj ET";
  assert.equal(await shown(turned, { entries, font: simple("/WinAnsiEncoding") }), "one more\ntwo");
});

test("forms within forms are drawn where they are called, with resources of their own or the page's", async () => {
  const pdf = new Writer();
  const form = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]";
  const own = `/Resources<</Font<</G ${pdf.helvetica} 0 R>>>>`;
  const inner = pdf.flate("BT /G 10 Tf 172 100 Td (inner) Tj ET", form + own);
  const outer = pdf.flate(
    "BT /G 10 Tf 72 100 Td (outer) Tj ET /In Do",
    `${form}/Matrix[1 0 0 1 0 50]/Resources<</Font<</G ${pdf.helvetica} 0 R>>/XObject<</In ${inner} 0 R>>>>`,
  );
  const plain = pdf.flate(lines([72, 20, "plain"]), form);
  pdf.page(`${lines([72, 700, "before"])} q /Out Do Q ${lines([272, 150, "beside"])} /Plain Do ${lines([72, 10, "after"])}`, {
    xObjects: { Out: outer, Plain: plain },
  });
  assert.equal(await textOf(pdf.file()), "before\nouter inner beside\nplain\nafter");
});

test("a form that draws itself ends", async () => {
  const pdf = new Writer();
  const form = pdf.flate(`${lines([72, 20, "again"])} /Self Do /Self Do`, "/Subtype/Form");
  pdf.page("/Self Do", { xObjects: { Self: form } });
  assert.match(await textOf(pdf.file()), /^again/);
});

for (const [name, pack, entries] of [
  ["hexadecimal", (text) => `${Buffer.from(text, "latin1").toString("hex")}>`, "/Filter/ASCIIHexDecode"],
  ["base 85", ascii85, "/Filter/ASCII85Decode"],
  ["base 85 around Flate", (text) => ascii85(deflated(text)), "/Filter[/ASCII85Decode /FlateDecode]/DecodeParms[null null]"],
  ...[0, 1, 2].map((kind) => [
    `Flate with PNG's predictor ${kind}`,
    (text) => deflated(predicted(text, 5, kind)),
    `/Filter/FlateDecode/DecodeParms<</Predictor ${10 + kind}/Columns 5>>`,
  ]),
  ["Flate whose end is missing", (text) => deflated(text + " ".repeat(40_000)).slice(0, -8), "/Filter/FlateDecode"],
]) {
  test(`a packed stream: ${name}`, async () => {
    const pdf = new Writer();
    pdf.page(pdf.stream(pack(lines([72, 700, "Unpacked, all of it"])), entries));
    assert.equal(await textOf(pdf.file()), "Unpacked, all of it");
  });
}

test("a filter that is not known gives no text, and the rest is read", async () => {
  const pdf = new Writer();
  pdf.page(pdf.stream("xyz", "/Filter/LZWDecode"));
  pdf.page(lines([72, 700, "known"]));
  assert.equal(await textOf(pdf.file()), "known");
});

test("pictures within a content are passed over", async () => {
  const picture = "BI /W 2 /H 2 /BPC 8 /CS /G ID \x00(\xff<\x01 EI";
  assert.equal(await shown(`${lines([72, 700, "before"])} ${picture} ${lines([72, 600, "after"])}`), "before\nafter");
});

test("an encrypted file is said to be one, with a password to open it or without", async () => {
  const encryption = (pdf) => pdf.add("<</Filter/Standard/V 2/R 3/Length 128/P -1340/O<00>/U<00>>>");
  const pdf = new Writer();
  pdf.page(pdf.stream("\x8f\x11\x92(\x03 garbage) Tj"));
  assert.equal(await troubleOf(pdf.file(`/Encrypt ${encryption(pdf)} 0 R/ID[<00><00>]`)), "fileEncrypted");
  const direct = new Writer();
  direct.page(lines([72, 700, "x"]));
  assert.equal(await troubleOf(direct.file("/Encrypt<</Filter/Standard/V 4>>")), "fileEncrypted");
});

test("words about encryption encrypt nothing", async () => {
  const pdf = new Writer();
  pdf.page(pdf.stream(lines([72, 700, "A trailer has /Encrypt 5 0 R or not"])));
  assert.equal(await textOf(pdf.file()), "A trailer has /Encrypt 5 0 R or not");
});

test("a scan has no text, and words that were found in it are read", async () => {
  const scan = (text) => {
    const pdf = new Writer();
    const image = pdf.stream("\xff\xd8\xff", "/Type/XObject/Subtype/Image/Width 1/Height 1/Filter/DCTDecode");
    pdf.page(`q 612 0 0 792 0 0 cm /Im Do Q ${text}`, { xObjects: { Im: image } });
    return pdf.file();
  };
  assert.equal(await troubleOf(scan("")), "fileNoPdfText");
  assert.equal(await textOf(scan("BT 3 Tr /F1 10 Tf 72 700 Td (found) Tj ET")), "found");
});

test("a font that does not say which letters it draws is shown as nothing", async () => {
  const pdf = new Writer();
  pdf.page("BT /F2 10 Tf <00480049> Tj ET", { fonts: { F2: composite(null)(pdf) } });
  assert.equal(await troubleOf(pdf.file()), "fileNoPdfText");
});

test("an empty page is no trouble beside others, and one when it is alone", async () => {
  const pdf = new Writer();
  pdf.page("");
  assert.equal(await troubleOf(pdf.file()), "fileNoPdfText");
  const more = new Writer();
  more.page(lines([72, 700, "one"]));
  more.page("");
  more.page(lines([72, 700, "three"]));
  assert.equal(await textOf(more.file()), "one\n\nthree");
});

test("references that lead astray, and lengths that are wrong", async () => {
  const pdf = new Writer();
  pdf.page(pdf.flate(lines([72, 700, "found"])));
  const source = fromBytes(pdf.file());
  const bytes = toBytes(source.replace(/\d{10} 00000 n/g, "0000000007 00000 n").replace(/\/Length \d+/g, "/Length 3"));
  assert.equal(await textOf(bytes), "found");
  assert.equal(await textOf(toBytes(source.replace(/\nxref[\s\S]*/, ""))), "found");
});

test("a file that is cut gives the pages that are there, or says that it is damaged", async () => {
  const pdf = new Writer();
  for (const number of [1, 2, 3]) pdf.page(lines([72, 700, `page ${number}`]));
  const source = fromBytes(pdf.file());
  const third = source.indexOf("/Contents", source.indexOf("/Contents", source.indexOf("/Contents") + 1) + 1);
  assert.equal(await textOf(toBytes(source.slice(0, third - 5))), "page 1\n\npage 2");
  for (const length of [5, 20, 100]) assert.equal(await troubleOf(toBytes(source.slice(0, length))), "fileDamaged");
});

test("a file that is cut anywhere ends in a text or in words about it", async () => {
  for (const kind of ["file", "packedFile"]) {
    const pdf = new Writer();
    pdf.page(lines([72, 700, "one (two)"]), { fonts: { F2: composite({ characters: [["01", "0041"]] })(pdf) } });
    const bytes = pdf[kind]();
    for (let length = 0; length < bytes.length; length += 7) {
      const { text, trouble } = await readPdf(bytes.subarray(0, length));
      assert.ok(text !== "" || trouble !== null, `${kind} ${length}`);
    }
  }
});

test("pages are read in their tree's order, and rings in it end", async () => {
  const pdf = new Writer({ resources: " " });
  const page = (text) => {
    const content = pdf.stream(lines([72, 700, text]));
    return pdf.add(`<</Type/Page/Parent 20 0 R/Contents ${content} 0 R>>`);
  };
  const [second, first] = [page("second"), page("first")];
  const source = [
    [20, `<</Type/Pages/Parent 21 0 R/Kids[${first} 0 R 21 0 R ${second} 0 R 20 0 R]>>`],
    [21, `<</Type/Pages/Parent 20 0 R/Kids[20 0 R]/Resources<</Font<</F1 ${pdf.helvetica} 0 R>>>>>>`],
    [22, "<</Type/Catalog/Pages 21 0 R>>"],
  ];
  assert.equal(await textOf(updated(pdf.file(), source, "/Root 22 0 R")), "first\n\nsecond");
});

test("a long file is read as far as its text may go", async () => {
  const pdf = new Writer();
  for (let number = 0; number < 300; number++) pdf.page(lines([72, 700, `page ${number} ${"word ".repeat(200)}`]));
  const bytes = pdf.file();
  assert.equal((await textOf(bytes)).match(/page/g).length, 300);
  const { text } = await readPdf(bytes, 10_000);
  assert.ok(text.length > 10_000 && text.length < 12_000);
});

test("hostile files cost no more than long ones", async () => {
  // No time is measured: what is quadratic here would not end within the test runner's patience.
  for (const part of ["(", "<<", "[", "<", "ID ", "BI ", "/", "1 ", "1 0 obj ", "\\(", "q ", "((a) ", "<</A ", "% "]) {
    const pdf = new Writer();
    pdf.page(pdf.stream(part.repeat(100_000)));
    await readPdf(pdf.file());
    await readPdf(toBytes(`%PDF-1.4\n${part.repeat(100_000)}`));
  }
});

test("a small stream that would fill the memory is unpacked in part", async () => {
  const pdf = new Writer();
  pdf.page(pdf.stream(deflated(lines([72, 700, "small"]) + " ".repeat(200_000_000)), "/Filter/FlateDecode"));
  assert.equal(await textOf(pdf.file()), "small");
});

function ascii85(text) {
  const groups = text.match(/[\s\S]{1,4}/g).map((group) => {
    const value = [...group.padEnd(4, "\0")].reduce((sum, byte) => sum * 256 + byte.charCodeAt(0), 0);
    if (value === 0 && group.length === 4) return "z";
    const digits = [4, 3, 2, 1, 0].map((power) => String.fromCharCode(33 + (Math.floor(value / 85 ** power) % 85)));
    return digits.slice(0, group.length + 1).join("");
  });
  return `${groups.join("")}~>`;
}
