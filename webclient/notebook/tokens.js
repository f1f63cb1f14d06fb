// The tokens that the model wrote into a text, and where they stand while the text is edited. Pure.

export class Tokens {
  #text = "";
  #list = []; // `{start, end, logprob, top}`, in order, never overlapping

  get text() {
    return this.#text;
  }

  get all() {
    return this.#list;
  }

  /** Add what the model wrote at the end. Tokens whose texts do not make up `text` are not placed. */
  append(text, tokens) {
    const isWhole = tokens.map((token) => token.text).join("") === text;
    let start = this.#text.length;
    this.#text += text;
    if (!isWhole) return;
    for (const token of tokens) {
      const end = start + token.text.length;
      this.#list.push({ ...token, start, end });
      start = end;
    }
  }

  /** Take the text as its writer left it: tokens before and after the change stay, those it touches are dropped. */
  edit(text) {
    const before = this.#text;
    const shortest = Math.min(before.length, text.length);
    let same = 0;
    while (same < shortest && before[same] === text[same]) same++;
    let sameEnd = 0;
    while (sameEnd < shortest - same && before[before.length - 1 - sameEnd] === text[text.length - 1 - sameEnd]) sameEnd++;
    const shift = text.length - before.length;
    this.#list = this.#list.flatMap((token) => {
      if (token.end <= same) return [token];
      if (token.start >= before.length - sameEnd) return [{ ...token, start: token.start + shift, end: token.end + shift }];
      return [];
    });
    this.#text = text;
  }

  at(index) {
    return this.#list.find(({ start, end }) => start <= index && index < end) ?? null;
  }
}
