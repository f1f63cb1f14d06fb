// Formulas in TeX as MathML, which browsers draw by themselves. The part of TeX that models write; the rest is shown
// as it was written. Elements are made one by one, so a formula is as harmless as any text.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const SYMBOLS = symbols(
  "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ " +
    "sigma σ tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω " +
    "infty ∞ partial ∂ nabla ∇ hbar ℏ ell ℓ emptyset ∅ angle ∠ degree ° prime ′",
);
const OPERATORS = symbols(
  "times × cdot ⋅ div ÷ pm ± mp ∓ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ approx ≈ equiv ≡ sim ∼ propto ∝ to → rightarrow → leftarrow ← " +
    "Rightarrow ⇒ Leftarrow ⇐ implies ⟹ iff ⟺ leftrightarrow ↔ mapsto ↦ in ∈ notin ∉ subset ⊂ subseteq ⊆ supset ⊃ cup ∪ cap ∩ setminus " +
    "∖ forall ∀ exists ∃ neg ¬ land ∧ wedge ∧ lor ∨ vee ∨ oplus ⊕ otimes ⊗ perp ⊥ parallel ∥ mid ∣ ldots … cdots ⋯ dots … vdots ⋮ " +
    "ddots ⋱ sum ∑ prod ∏ int ∫ iint ∬ oint ∮ langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ circ ∘ star ⋆ ll ≪ gg ≫ therefore ∴ " +
    "because ∵ { { } } | ‖ % % $ $ # # & & _ _",
);
const FUNCTIONS = new Set(
  ("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln " + "exp lim max min sup inf det dim ker gcd deg arg mod Pr").split(
    " ",
  ),
);
const SPACES = { ",": "0.17em", ":": "0.22em", ";": "0.28em", " ": "0.25em", quad: "1em", qquad: "2em", "!": "0" };
const ACCENTS = { hat: "^", widehat: "^", bar: "¯", overline: "¯", vec: "→", dot: "˙", ddot: "¨", tilde: "~" };
const LETTERS = { mathbb: "double-struck", mathbf: "bold", mathcal: "script", mathrm: "normal" };
const DOUBLE_STRUCK = { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" };
const TOKEN = /\\([a-zA-Z]+|[\s\S])|\s+|\d+(?:\.\d+)?|[\s\S]/gu;
const BIG = new Set("∑∏∫∬∮");
const MAX_DEPTH = 40;

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
    this.#tokens = source.match(TOKEN)?.filter((token) => token.trim() !== "" || token === "\\ ") ?? [];
  }

  /** Everything up to one of `ends`, which is taken too. */
  row(...ends) {
    const parts = [];
    while (this.#at < this.#tokens.length && !ends.includes(this.#next)) {
      if (this.#next === "}")
        this.#at++; // one too many
      else parts.push(this.#scripted());
    }
    this.#at++;
    return parts.length === 1 ? parts[0] : make("mrow", ...parts);
  }

  get #next() {
    return this.#tokens[this.#at];
  }

  #scripted() {
    const base = this.#atom();
    let below = null;
    let above = null;
    while (this.#next === "_" || this.#next === "^" || this.#next === "'") {
      const mark = this.#tokens[this.#at++];
      if (mark === "_") below = this.#argument();
      else above = mark === "'" ? make("mo", "′") : this.#argument();
    }
    if (!below && !above) return base;
    const isLimits = BIG.has(base.textContent) ? !"∫∬∮".includes(base.textContent) : base.textContent === "lim";
    const [under, over, both] = isLimits ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
    if (below && above) return make(both, base, below, above);
    return below ? make(under, base, below) : make(over, base, above);
  }

  #argument() {
    if (this.#next === undefined || this.#next === "}") return make("mrow");
    return this.#atom();
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
      if (token[0] === "\\" && token.length > 1) return this.#command(token.slice(1));
      if (/^\d/.test(token)) return make("mn", token);
      return make(/\p{L}/u.test(token) ? "mi" : "mo", token === "-" ? "−" : token);
    } finally {
      this.#depth--;
    }
  }

  #command(name) {
    if (SYMBOLS.has(name)) return make("mi", SYMBOLS.get(name));
    if (OPERATORS.has(name)) return make("mo", OPERATORS.get(name));
    if (FUNCTIONS.has(name)) return make("mi", name);
    if (Object.hasOwn(SPACES, name)) {
      const space = make("mspace");
      space.setAttribute("width", SPACES[name]);
      return space;
    }
    if (Object.hasOwn(ACCENTS, name)) return make("mover", this.#argument(), make("mo", ACCENTS[name]));
    if (Object.hasOwn(LETTERS, name)) return this.#letters(name);
    switch (name) {
      case "frac":
      case "dfrac":
      case "tfrac":
        return make("mfrac", this.#argument(), this.#argument());
      case "binom":
        return make("mrow", make("mo", "("), make("mtable", row(this.#argument()), row(this.#argument())), make("mo", ")"));
      case "sqrt":
        if (this.#next !== "[") return make("msqrt", this.#argument());
        this.#at++;
        return ((index) => make("mroot", this.#argument(), index))(this.row("]"));
      case "text":
      case "operatorname":
      case "textbf":
      case "mbox":
        return make("mtext", this.#argument().textContent);
      case "left":
      case "right":
      case "big":
      case "Big":
      case "bigg":
        if (this.#next !== ".") return this.#argument();
        this.#at++;
        return make("mrow");
      case "displaystyle":
      case "limits":
      case "begin":
        return name === "begin" ? this.#environment() : make("mrow");
      case "\\":
        return make("mspace");
    }
    return make("mtext", `\\${name}`);
  }

  #letters(name) {
    const letters = this.#argument();
    if (name === "mathbb" && Object.hasOwn(DOUBLE_STRUCK, letters.textContent)) {
      return make("mi", DOUBLE_STRUCK[letters.textContent]);
    }
    if (name === "mathbf") letters.setAttribute("class", "bold");
    if (name === "mathrm") letters.setAttribute("mathvariant", "normal");
    return letters;
  }

  #environment() {
    const name = this.#argument().textContent;
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
    this.#argument();
    const table = make("mtable", ...rows.map((cells) => make("mtr", ...cells.map((cell) => make("mtd", ...cell)))));
    const [before, after] = { pmatrix: "()", bmatrix: "[]", vmatrix: "||", cases: "{" }[name] ?? "";
    return make("mrow", ...(before ? [make("mo", before)] : []), table, ...(after ? [make("mo", after)] : []));
  }
}

function row(cell) {
  return make("mtr", make("mtd", cell));
}

function make(tag, ...children) {
  const created = document.createElementNS(MATHML, tag);
  created.append(...children);
  return created;
}

function symbols(list) {
  const parts = list.split(" ");
  return new Map(parts.flatMap((part, index) => (index % 2 === 0 ? [[part, parts[index + 1]]] : [])));
}
