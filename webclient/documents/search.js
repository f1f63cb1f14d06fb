// Which passages fit a question: by meaning, where there are vectors, and by words; the two rankings are fused. Pure.
//
// Words are weighed by BM25 (Robertson and Zaragoza, 2009). A chat model's vectors are made for something else and
// often mistake what a rare word finds at once, while words alone miss what is said in others; so a passage counts by
// its place in both rankings (reciprocal rank fusion; Cormack, Clarke and Büttcher, 2009).

const K1 = 1.2;
const B = 0.75;
const FUSION = 10;

/** Return the indices of the `count` best of `passages`, in the text's order. Vectors may be null. */
export function bestPassages(question, passages, { count, vectors = null, questionVector = null }) {
  const rankings = [ranking(byWords(question, passages))];
  if (vectors && questionVector) rankings.push(ranking(vectors.map((vector) => cosine(vector, questionVector))));
  const scores = passages.map((_, index) => rankings.reduce((sum, ranks) => sum + 1 / (FUSION + ranks[index]), 0));
  return [...scores.keys()]
    .sort((one, other) => scores[other] - scores[one])
    .slice(0, count)
    .sort((one, other) => one - other);
}

/** Each one's place when all are ordered, the best being 0; equals share a place. */
function ranking(scores) {
  const ordered = [...new Set(scores)].sort((one, other) => other - one);
  const places = new Map(ordered.map((score, place) => [score, place]));
  return scores.map((score) => places.get(score));
}

function byWords(question, passages) {
  const wanted = new Set(wordsOf(question));
  const texts = passages.map(wordsOf);
  const averageLength = texts.reduce((sum, words) => sum + words.length, 0) / (texts.length || 1);
  const numWith = new Map();
  for (const words of texts) {
    for (const word of new Set(words)) if (wanted.has(word)) numWith.set(word, (numWith.get(word) ?? 0) + 1);
  }
  return texts.map((words) => {
    const counts = new Map();
    for (const word of words) if (wanted.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
    let score = 0;
    for (const [word, times] of counts) {
      const rarity = Math.log(1 + (texts.length - numWith.get(word) + 0.5) / (numWith.get(word) + 0.5));
      score += (rarity * times * (K1 + 1)) / (times + K1 * (1 - B + (B * words.length) / averageLength));
    }
    return score;
  });
}

/** Words without case and accents; a plural's s goes too, which is crude and helps. */
function wordsOf(text) {
  const plain = text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
  return (plain.match(/[\p{L}\p{N}]+/gu) ?? []).map((word) => (word.length > 3 ? word.replace(/s$/, "") : word));
}

function cosine(one, other) {
  let dot = 0;
  let lengthOne = 0;
  let lengthOther = 0;
  for (let i = 0; i < one.length; i++) {
    dot += one[i] * other[i];
    lengthOne += one[i] * one[i];
    lengthOther += other[i] * other[i];
  }
  return dot / (Math.sqrt(lengthOne * lengthOther) || 1);
}
