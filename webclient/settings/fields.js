// The settings: what each is called in a request, and how it is changed. Pure.
//
// A chat keeps only what differs from the bundle's own, so a bundle with better defaults improves old chats too.

export const GROUPS = [
  { name: "groupInstructions", fields: [{ key: "system", kind: "text" }] },
  {
    name: "groupStyle",
    fields: [
      { key: "temperature", kind: "range", min: 0, max: 2, step: 0.05, standard: 0.8 },
      { key: "top_p", kind: "range", min: 0.05, max: 1, step: 0.05, standard: 0.95 },
      { key: "top_k", kind: "range", min: 0, max: 200, step: 1, standard: 40 },
      { key: "min_p", kind: "range", min: 0, max: 1, step: 0.01, standard: 0.05 },
      { key: "repeat_penalty", kind: "range", min: 0.8, max: 2, step: 0.01, standard: 1 },
      { key: "seed", kind: "number", min: 0 },
    ],
  },
  {
    name: "groupLimits",
    fields: [
      { key: "max_tokens", kind: "number", min: 1 },
      { key: "stops", kind: "lines" },
    ],
  },
  {
    name: "groupFormat",
    fields: [
      {
        key: "format",
        kind: "choice",
        choices: { text: "formatText", json: "formatJson", schema: "formatSchema", grammar: "formatGrammar" },
      },
      { key: "schema", kind: "code", format: "schema" },
      { key: "grammar", kind: "code", format: "grammar" },
    ],
  },
];

export const FIELDS = GROUPS.flatMap(({ fields }) => fields);

/** Settings without what is not one, as a file from somewhere may hold anything. */
export function knownSettings(settings) {
  return Object.fromEntries(FIELDS.flatMap((field) => (isFit(field, settings[field.key]) ? [[field.key, settings[field.key]]] : [])));
}

function isFit({ kind, choices }, value) {
  if (kind === "range" || kind === "number") return typeof value === "number" && Number.isFinite(value);
  if (kind === "choice") return Object.hasOwn(choices, value);
  if (kind === "lines") return Array.isArray(value) && value.every((line) => typeof line === "string");
  return typeof value === "string";
}

/** What a setting is when the chat says nothing. */
export function standardOf(field, defaults = {}) {
  const value = defaults?.[field.key];
  if (isFit(field, value) && !(field.key === "max_tokens" && value < 0) && !(field.key === "seed" && value < 0)) return value;
  return field.standard ?? (field.kind === "choice" ? "text" : field.kind === "lines" ? [] : field.kind === "number" ? null : "");
}

/** The fields of a request that say how the answer is chosen. */
export function requestFields(settings) {
  const { system: _, stops, format = "text", schema, grammar, max_tokens: maxTokens, ...sampling } = knownSettings(settings);
  const fields = { ...sampling };
  if (maxTokens !== undefined) fields.max_tokens = maxTokens;
  if (stops?.length > 0) fields.stop = stops;
  if (format === "json") fields.response_format = { type: "json_object" };
  if (format === "schema" && isJson(schema)) {
    fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema) } };
  }
  if (format === "grammar" && grammar) fields.grammar = grammar;
  return fields;
}

export function isJson(text) {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}
