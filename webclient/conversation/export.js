// Chats as files: Markdown for people who want to read or print one, JSON for taking them along. Pure.

const FORMAT = "holdall.chats";

/** A chat as a file `{name, content, type}`; `kind` is "md" or "json", `words` names who speaks: `{you, model}`. */
export function fileOf(chat, kind, words) {
  if (kind === "md") return { name: fileName(chat.title, "md"), content: toMarkdown(chat, words), type: "text/markdown" };
  return fileOfAll(chat.title, { format: FORMAT, version: 1, chats: [chat.toJson()] });
}

/** A document of chats, one or more, as a file. */
export function fileOfAll(title, document) {
  return { name: fileName(title, "json"), content: JSON.stringify(document, null, 1), type: "application/json" };
}

/** The document of chats that a file's text is, or null. Its chats may hold anything. */
export function documentIn(text) {
  try {
    const document = JSON.parse(text);
    return document?.format === FORMAT ? document : null;
  } catch {
    return null;
  }
}

function toMarkdown(chat, words) {
  const parts = [`# ${chat.title}`];
  for (const message of chat.path) {
    const who = message.role === "user" ? words.you : words.model;
    const files = message.attachments.filter(({ kind }) => kind !== "passage").map(({ name }) => `📎 ${name}`);
    parts.push(`**${who}**`, ...files, message.content.trim());
  }
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

/** A file's name from a title: what some system does not allow in one is left out. */
export function fileName(title, extension) {
  const name = title
    .replace(/[\\/:*?"<>|\p{Cc}…]/gu, " ")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, 80)
    .replace(/[. ]+$/, "");
  return `${name || "chat"}.${extension}`;
}
