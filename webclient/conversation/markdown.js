// A chat as a Markdown document, for people who want to keep or print it. Pure.

/** `words` names who speaks: `{you, model}`. */
export function toMarkdown(chat, words) {
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
