import assert from "node:assert/strict";
import { test } from "node:test";

import { mathElement } from "../../../webclient/markdown/math.js";
import { document } from "./elements.js";

globalThis.document = document;

/** What is inside the element of a formula, as markup. */
function shown(source) {
  return String(mathElement(source, { isBlock: true })).replace(/^<math [^>]*>|<\/math>$/g, "");
}

const matrix = (...rows) =>
  `<mtable>${rows.map((cells) => `<mtr>${cells.map((cell) => `<mtd>${cell}</mtd>`).join("")}</mtr>`).join("")}</mtable>`;
const row = (...parts) => `<mrow>${parts.join("")}</mrow>`;
const [a, b, c, n, x] = [..."abcnx"].map((letter) => `<mi>${letter}</mi>`);
const [one, two] = ["<mn>1</mn>", "<mn>2</mn>"];
const nothing = "<mrow></mrow>";

const TABLE = {
  "fractions and roots": [
    ["\\frac{1}{2}", `<mfrac>${one}${two}</mfrac>`],
    ["\\frac12", `<mfrac>${one}${two}</mfrac>`],
    ["\\dfrac{a}{\\frac{b}{c}}", `<mfrac>${a}<mfrac>${b}${c}</mfrac></mfrac>`],
    ["x^\\frac12", `<msup>${x}<mfrac>${one}${two}</mfrac></msup>`],
    ["\\sqrt x", `<msqrt>${x}</msqrt>`],
    ["\\sqrt[n]{a b}", `<mroot>${row(a, b)}${n}</mroot>`],
    ["\\binom{n}{x}", row("<mo>(</mo>", matrix([n], [x]), "<mo>)</mo>")],
  ],
  scripts: [
    ["x^2", `<msup>${x}${two}</msup>`],
    ["x_a^2", `<msubsup>${x}${a}${two}</msubsup>`],
    ["x^2_a", `<msubsup>${x}${a}${two}</msubsup>`],
    ["x^{a^{b}}", `<msup>${x}<msup>${a}${b}</msup></msup>`],
    ["x^{a b}", `<msup>${x}${row(a, b)}</msup>`],
    ["2^10", `<msup>${two}<mn>10</mn></msup>`],
    ["x'", `<msup>${x}<mo>′</mo></msup>`],
    ["x''", `<msup>${x}<mo>′′</mo></msup>`],
    ["x'^2", `<msup>${x}${row("<mo>′</mo>", two)}</msup>`],
    ["^2", `<msup>${nothing}${two}</msup>`],
    ["\\mathbb{R}^n", `<msup><mi>ℝ</mi>${n}</msup>`],
  ],
  limits: [
    ["\\sum_{n=1}^x", `<munderover><mo>∑</mo>${row(n, "<mo>=</mo>", one)}${x}</munderover>`],
    ["\\sum\\limits_n", `<munder><mo>∑</mo>${n}</munder>`],
    ["\\sum\\nolimits_n", `<msub><mo>∑</mo>${n}</msub>`],
    ["\\int_1^2", `<msubsup><mo>∫</mo>${one}${two}</msubsup>`],
    ["\\int\\limits_1^2", `<munderover><mo>∫</mo>${one}${two}</munderover>`],
    ["\\lim_{x\\to1}", `<munder><mi>lim</mi>${row(x, "<mo>→</mo>", one)}</munder>`],
    ["\\max_x", `<munder><mi>max</mi>${x}</munder>`],
    ["\\operatorname*{arg\\,max}_x", `<munder><mtext>arg\u00a0max</mtext>${x}</munder>`],
    ["\\log_2", `<msub><mi>log</mi>${two}</msub>`],
    ["\\underbrace{a}_{n}", `<munder><munder>${a}<mo>⏟</mo></munder>${n}</munder>`],
  ],
  "matrices and the like": [
    ["\\begin{pmatrix}a&b\\\\c&x\\end{pmatrix}", row("<mo>(</mo>", matrix([a, b], [c, x]), "<mo>)</mo>")],
    ["\\begin{bmatrix}a\\end{bmatrix}^n", `<msup>${row("<mo>[</mo>", matrix([a]), "<mo>]</mo>")}${n}</msup>`],
    ["\\begin{cases}a&b\\\\[2pt]c\\end{cases}", row("<mo>{</mo>", matrix([a, b], [c]))],
    ["\\begin{array}{c|c}a&b\\end{array}", row(matrix([a, b]))],
    ["\\begin{aligned}a&=b\\\\&=c\\end{aligned}", row(matrix([a, `<mo>=</mo>${b}`], ["", `<mo>=</mo>${c}`]))],
  ],
  signs: [
    ["\\alpha\\Omega", row("<mi>α</mi>", "<mi>Ω</mi>")],
    ["a\\neq b", row(a, "<mo>≠</mo>", b)],
    ["a\\not=b", row(a, "<mo>≠</mo>", b)],
    ["-1", row("<mo>−</mo>", one)],
    ["3.14", "<mn>3.14</mn>"],
    ["\\{a\\}", row("<mo>{</mo>", a, "<mo>}</mo>")],
    ["50\\%", row("<mn>50</mn>", "<mo>%</mo>")],
    ["\\left( a \\right.", row("<mo>(</mo>", a, nothing)],
    ["\\Bigl[ a \\Bigr]", row("<mo>[</mo>", a, "<mo>]</mo>")],
    ["\\vec{x}", `<mover>${x}<mo>→</mo></mover>`],
    ["a\\quad b", row(a, '<mspace width="1em"></mspace>', b)],
    ["\\boxed{1}", '<mrow class="boxed"><mn>1</mn></mrow>'],
  ],
  letters: [
    ["\\text{if } x", row("<mtext>if\u00a0</mtext>", x)],
    ["\\text{a  b, 5\\%}", "<mtext>a\u00a0b,\u00a05%</mtext>"],
    ["\\textbf{a b}", "<mtext>a\u00a0b</mtext>"],
    ["\\text{a{b}c}", "<mtext>abc</mtext>"],
    ["\\operatorname{softmax}x", row("<mtext>softmax</mtext>", x)],
    ["\\mathrm{kg}", "<mi>kg</mi>"],
    ["\\mathrm{a}", '<mi mathvariant="normal">a</mi>'],
    ["\\mathbf{x}", '<mi class="bold">x</mi>'],
    ["\\mathbb{A}", "<mi>A</mi>"],
  ],
  "what is not known, or not whole": [
    ["\\unknown{x}", row("<mtext>\\unknown</mtext>", x)],
    ["\\texture", "<mtext>\\texture</mtext>"],
    ["\\frac{1", `<mfrac>${one}${nothing}</mfrac>`],
    ["\\frac", `<mfrac>${nothing}${nothing}</mfrac>`],
    ["x^", `<msup>${x}${nothing}</msup>`],
    ["{{x", x],
    ["x}}", x],
    ["}x{", row(x, nothing)],
    ["\\sqrt[n", `<mroot>${nothing}${n}</mroot>`],
    ["\\text{a", "<mtext>a</mtext>"],
    ["\\begin{matrix}a", row(matrix([a]))],
    ["\\begin", row(matrix([""]))],
    ["\\left", nothing],
    ["x\\", row(x, "<mo>\\</mo>")],
    ["", nothing],
  ],
};

for (const [name, cases] of Object.entries(TABLE)) {
  for (const [source, expected] of cases) test(`${name}: ${source}`, () => assert.equal(shown(source), expected));
}

test("a formula says how it stands and what was written", () => {
  assert.equal(String(mathElement("x", { isBlock: false })), `<math display="inline" aria-label="x">${x}</math>`);
  assert.match(String(mathElement("x", { isBlock: true })), /^<math display="block"/);
});

for (const hostile of [
  "<img src=x onerror=alert(1)>",
  "\\text{<img src=x onerror=alert(1)>}",
  "\\operatorname{<script>alert(1)</script>}",
  "\\begin{<b>}x\\end{<b>}",
  "\\href{javascript:alert(1)}{x}",
  "\\mathrm{<}",
  "\\not<",
  '"><b>',
]) {
  test(`only MathML gets out of ${hostile}`, () => {
    const known = /^(?:math|mrow|mi|mo|mn|mtext|mspace|mfrac|msqrt|mroot|msub|msup|msubsup|munder|mover|munderover|mtable|mtr|mtd)$/;
    const look = (element) => {
      if (typeof element === "string") return;
      assert.match(element.tag, known);
      for (const name of element.attributes.keys()) assert.match(name, /^(?:display|aria-label|class|width|mathvariant)$/);
      element.children.forEach(look);
    };
    look(mathElement(hostile, { isBlock: true }));
  });
}

test("names that every object has are no commands", () => {
  for (const name of ["constructor", "toString", "hasOwnProperty"]) {
    assert.equal(shown(`\\${name}`).startsWith("<mtext>\\"), true, name);
    assert.match(shown(`\\begin{${name}}x\\end{${name}}`), /^<mrow><mtable><mtr><mtd><mi>x/);
  }
  assert.match(shown("\\begin{__proto__}x\\end{__proto__}"), /^<mrow><mtable><mtr><mtd><mi>x/);
});

test("deep nesting stops at a depth that a browser can draw", () => {
  const depth = (element) => (typeof element === "string" ? 0 : 1 + Math.max(0, ...element.children.map(depth)));
  for (const part of [
    "{",
    "\\sqrt{",
    "\\frac{",
    "x^{",
    "\\sqrt",
    "\\hat",
    "\\begin{matrix}",
    "\\text",
    "\\text{",
    "\\left",
    "\\not",
    "_",
    "'",
  ]) {
    assert.ok(depth(mathElement(part.repeat(10_000), { isBlock: true })) < 200, part);
  }
});

test("hostile formulas cost no more than long ones", () => {
  // No time is measured: what is quadratic here would not end within the test runner's patience.
  const parts = [
    "x",
    "x^",
    "_",
    "'",
    "{",
    "}",
    "\\frac1",
    "\\text{a",
    "\\text ",
    "\\sqrt[",
    "&",
    "\\\\",
    "\\\\[2",
    "\\begin{a}",
    "\\end",
    "1",
  ];
  for (const part of parts) mathElement(part.repeat(40_000), { isBlock: true });
  mathElement("x".repeat(400_000), { isBlock: true }); // more than a call takes arguments
});
