// The settings: what each is called in a request, and how it is changed. Pure.
//
// Ranges and defaults come from page.json, where the program says its own; no number is written here a second time.
// A chat keeps only what differs from the bundle's own, so a bundle with better defaults improves old chats too.

export const GROUPS = [
  { name: "groupInstructions", fields: [{ key: "system", kind: "text" }] },
  {
    name: "groupStyle",
    fields: [
      { key: "temperature", kind: "range" },
      { key: "top_p", kind: "range" },
      { key: "top_k", kind: "range" },
      { key: "min_p", kind: "range" },
      { key: "repeat_penalty", kind: "range" },
      { key: "seed", kind: "number" },
    ],
  },
  {
    name: "groupLimits",
    fields: [
      { key: "max_tokens", kind: "number" },
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

/** What page.json says of a setting's numbers: the default, the range, its usual part and the step; nothing of a text. */
export function numbersOf(field, face) {
  return face.settings?.find(({ name }) => name === field.key) ?? {};
}

/** What a setting is when the chat says nothing: the bundle's default, else the program's. */
export function standardOf(field, face) {
  const value = face.defaults?.[field.key];
  if (isFit(field, value) && !(field.kind === "number" && value < 0)) return value; // -1 is no number of tokens and no seed
  if (field.kind === "range" || field.kind === "number") return numbersOf(field, face).default ?? null;
  return field.kind === "choice" ? "text" : field.kind === "lines" ? [] : "";
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
