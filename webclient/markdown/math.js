// Formulas in TeX as MathML, which browsers draw by themselves. The part of TeX that models write; the rest is shown
// as it was written. Elements are made one by one, so a formula is as harmless as any text.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const SYMBOLS = symbols(
  "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ " +
    "sigma σ tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω " +
    "infty ∞ partial ∂ nabla ∇ hbar ℏ ell ℓ emptyset ∅ varnothing ∅ angle ∠ degree ° prime ′",
);
const OPERATORS = symbols(
  "times × cdot ⋅ div ÷ pm ± mp ∓ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ approx ≈ equiv ≡ cong ≅ sim ∼ propto ∝ " +
    "to → rightarrow → leftarrow ← gets ← Rightarrow ⇒ Leftarrow ⇐ implies ⟹ " +
    "iff ⟺ leftrightarrow ↔ Leftrightarrow ⇔ mapsto ↦ in ∈ notin ∉ subset ⊂ subseteq ⊆ supset ⊃ supseteq ⊇ cup ∪ cap ∩ bigcup ⋃ " +
    "bigcap ⋂ setminus ∖ forall ∀ exists ∃ neg ¬ land ∧ wedge ∧ lor ∨ vee ∨ oplus ⊕ otimes ⊗ perp ⊥ parallel ∥ mid ∣ ldots … " +
    "cdots ⋯ dots … vdots ⋮ ddots ⋱ sum ∑ prod ∏ int ∫ iint ∬ oint ∮ langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ " +
    "lvert | rvert | vert | lVert ‖ rVert ‖ Vert ‖ circ ∘ star ⋆ ll ≪ gg ≫ therefore ∴ bmod mod " +
    "{ { } } | ‖ % % $ $ # # & & _ _",
);
const FUNCTIONS = new Set(
  (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp " +
    "lim limsup liminf max min sup inf det dim ker gcd deg arg mod Pr"
  ).split(" "),
);
const SPACES = { ",": "0.17em", ":": "0.22em", ";": "0.28em", " ": "0.25em", quad: "1em", qquad: "2em", "!": "0", "\\": "0" };
const ACCENTS = symbols("hat ^ widehat ^ bar ¯ overline ¯ vec → dot ˙ ddot ¨ tilde ~ overbrace ⏞");
const UNDER = symbols("underline _ underbrace ⏟");
const DOUBLE_STRUCK = symbols("C ℂ H ℍ N ℕ P ℙ Q ℚ R ℝ Z ℤ");
const FENCES = symbols("pmatrix () bmatrix [] vmatrix || cases {");
const HAS_LIMITS = /^(?:[∑∏⋃⋂]|lim|limsup|liminf|max|min|sup|inf|det|gcd|Pr|arg\s?max|arg\s?min)$|[⏞⏟]$/;
const SCRIPT = /^(?:[_^']|\\(?:no)?limits)$/;
const DELIMITER = /^(?:left|right|middle|[bB]igg?[lrm]?)$/;
const TEXT = /^\\(text(?:bf|it|rm|sf|tt)?|mbox|operatorname\*?)(?![a-zA-Z])(?:\s*\{([^{}]*)\})?$/;
const TOKEN = new RegExp(`${TEXT.source.slice(1, -2)}|\\\\(?:[a-zA-Z]+|[\\s\\S])|\\s+|\\d+(?:\\.\\d+)?|[\\s\\S]`, "gu");
const MAX_DEPTH = 40;
const FRACTION = (f) => make("mfrac", f.argument(), f.argument());
const NOTHING = () => make("mrow");

/** What a command makes of what follows it in the formula `f`. */
const COMMANDS = {
  frac: FRACTION,
  dfrac: FRACTION,
  tfrac: FRACTION,
  cfrac: FRACTION,
  binom: (f) => make("mrow", make("mo", "("), make("mtable", row(f.argument()), row(f.argument())), make("mo", ")")),
  sqrt: (f) => f.root(),
  not: (f) => make("mo", `${f.argument().textContent}\u0338`.normalize()),
  boxed: (f) => classed("boxed", make("mrow", f.argument())),
  mathbf: (f) => classed("bold", f.argument()),
  mathbb: (f) => doubleStruck(f.argument()),
  mathrm: (f) => upright(f.argument()),
  mathcal: (f) => f.argument(),
  displaystyle: NOTHING,
  begin: (f) => f.environment(),
};

/** The element of a formula. */
export function mathElement(source, { isBlock }) {
  const math = make("math", new Formula(source).row());
  math.setAttribute("display", isBlock ? "block" : "inline");
  math.setAttribute("aria-label", source);
  return math;
}

class Formula {
  #tokens;
  #at = 0;
  #depth = 0;

  constructor(source) {
    const withoutGaps = source.replace(/\\\\\[[\d.]+[a-z]{2}\]/g, "\\\\"); // of a line's end
    this.#tokens = withoutGaps.match(TOKEN)?.filter((token) => token.trim() !== "") ?? [];
  }

  /** Everything up to `end`, which is taken too. A closing brace that nothing opened is left out. */
  row(end) {
    const parts = [];
    while (this.#at < this.#tokens.length && this.#next !== end) {
      if (this.#next === "}") this.#at++;
      else parts.push(this.#scripted());
    }
    this.#at++;
    return parts.length === 1 ? parts[0] : make("mrow", parts);
  }

  get #next() {
    return this.#tokens[this.#at];
  }

  #scripted() {
    const base = /^[_^']$/.test(this.#next) ? make("mrow") : this.#atom();
    let below = null;
    let above = null;
    let primes = "";
    let hasLimits = null;
    while (SCRIPT.test(this.#next ?? "")) {
      const mark = this.#tokens[this.#at++];
      if (mark === "_") below = this.#script();
      else if (mark === "^") above = this.#script();
      else if (mark === "'") primes += "′";
      else hasLimits = mark === "\\limits";
    }
    if (primes !== "") above = above ? make("mrow", make("mo", primes), above) : make("mo", primes);
    if (!below && !above) return base;
    hasLimits ??= HAS_LIMITS.test(base.textContent);
    const [under, over, both] = hasLimits ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
    if (below && above) return make(both, base, below, above);
    return below ? make(under, base, below) : make(over, base, above);
  }

  /** What stands above or below; a whole number there needs no braces, which TeX would want. */
  #script() {
    return this.#next === undefined || this.#next === "}" ? make("mrow") : this.#atom();
  }

  /** What a command is about: a group or the next sign, of a number the first digit. */
  argument() {
    const token = this.#next ?? "";
    if (/^\d./.test(token)) {
      this.#tokens[this.#at] = token.slice(1);
      return make("mn", token[0]);
    }
    return this.#script();
  }

  #atom() {
    const token = this.#tokens[this.#at++];
    if (++this.#depth > MAX_DEPTH) {
      this.#depth--;
      return make("mtext", token);
    }
    try {
      if (token === "{") return this.row("}");
      if (token === "&" || token === "~") return make("mspace");
      if (token[0] === "\\" && token.length > 1) return this.#command(token);
      if (/^\d/.test(token)) return make("mn", token);
      return make(/\p{L}/u.test(token) ? "mi" : "mo", token === "-" ? "−" : token);
    } finally {
      this.#depth--;
    }
  }

  #command(token) {
    const text = TEXT.exec(token);
    if (text) return make("mtext", text[2] === undefined ? this.argument().textContent : plain(text[2]));
    const name = token.slice(1);
    if (SYMBOLS.has(name)) return make("mi", SYMBOLS.get(name));
    if (OPERATORS.has(name)) return make("mo", OPERATORS.get(name));
    if (FUNCTIONS.has(name)) return make("mi", name);
    if (ACCENTS.has(name)) return make("mover", this.argument(), make("mo", ACCENTS.get(name)));
    if (UNDER.has(name)) return make("munder", this.argument(), make("mo", UNDER.get(name)));
    if (Object.hasOwn(SPACES, name)) return space(SPACES[name]);
    if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name](this);
    if (DELIMITER.test(name)) return this.#delimiter();
    return make("mtext", token);
  }

  #delimiter() {
    if (this.#next !== ".") return this.argument();
    this.#at++;
    return make("mrow");
  }

  root() {
    if (this.#next !== "[") return make("msqrt", this.argument());
    this.#at++;
    const index = this.row("]");
    return make("mroot", this.argument(), index);
  }

  environment() {
    const name = this.argument().textContent;
    if (name === "array") this.argument(); // how its columns are aligned
    const rows = [[[]]];
    while (this.#at < this.#tokens.length && this.#next !== "\\end") {
      if (this.#next === "&") rows.at(-1).push([]);
      else if (this.#next === "\\\\") rows.push([[]]);
      else {
        rows.at(-1).at(-1).push(this.#scripted());
        continue;
      }
      this.#at++;
    }
    this.#at++;
    this.argument();
    const table = rows.map((cells) =>
      make(
        "mtr",
        cells.map((cell) => make("mtd", cell)),
      ),
    );
    const [before = "", after = ""] = FENCES.get(name) ?? "";
    return make("mrow", before && make("mo", before), make("mtable", table), after && make("mo", after));
  }
}

/** The words of a text. A space at an end of <mtext> would not be seen, one that doesn't break is. */
function plain(text) {
  return text
    .replace(/\\[,:; ]|~/g, " ")
    .replace(/\\([%$#&_])/g, "$1")
    .replace(/\s+/g, "\u00a0");
}

function doubleStruck(letters) {
  const letter = DOUBLE_STRUCK.get(letters.textContent);
  return letter ? make("mi", letter) : letters;
}

/** A name: letters together are upright by themselves, a single one has to be told. */
function upright(letters) {
  const name = letters.textContent;
  if (!/^\p{L}+$/u.test(name)) return letters;
  const element = make("mi", name);
  if (name.length === 1) element.setAttribute("mathvariant", "normal");
  return element;
}

function classed(name, element) {
  element.setAttribute("class", name);
  return element;
}

function space(width) {
  const element = make("mspace");
  element.setAttribute("width", width);
  return element;
}

function row(cell) {
  return make("mtr", make("mtd", cell));
}

/** An element with children, or lists of them; one by one, since a call takes only so many. */
function make(tag, ...children) {
  const created = document.createElementNS(MATHML, tag);
  for (const child of children.flat()) if (child !== "") created.append(child);
  return created;
}

function symbols(list) {
  const parts = list.split(" ");
  return new Map(parts.flatMap((part, index) => (index % 2 === 0 ? [[part, parts[index + 1]]] : [])));
}
