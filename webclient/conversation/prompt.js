// What is sent for an answer: the branch as messages of the API. Pure.
//
// A document that fits goes whole into the question it came with. Of a longer one only the passages that were found for
// the question do; they are kept with the question, so that the same chat always makes the same prompt.

/**
 * Return the messages that ask for the end of `path`, which is a question, or an answer to be continued.
 * Many chat templates refuse two messages of one role in a row, so questions that got no answer are left out.
 */
export function messagesFor(path, { system = "" } = {}) {
  const messages = [];
  if (system.trim() !== "") messages.push({ role: "system", content: system });
  path.forEach((message, index) => {
    const isLast = index === path.length - 1;
    if (message.role === "user") {
      const next = path[index + 1];
      if (isLast || (next?.role === "assistant" && next.content !== "")) {
        messages.push({ role: "user", content: contentOf(message) });
      }
    } else if (message.content !== "") messages.push({ role: "assistant", content: message.content });
  });
  return messages;
}

function contentOf({ content, attachments }) {
  const parts = [];
  for (const { kind, name, text } of attachments) {
    if (kind === "text") parts.push(`File “${name}”:\n\n${fenced(text)}`);
    if (kind === "passage") parts.push(`From “${name}”:\n\n${fenced(text)}`);
  }
  const words = [...parts, content].filter(Boolean).join("\n\n");
  const images = attachments.filter(({ kind }) => kind === "image");
  if (images.length === 0) return words;
  return [...images.map(({ data }) => ({ type: "image_url", image_url: { url: data } })), { type: "text", text: words }];
}

/** A text between fences longer than any of its own. */
function fenced(text) {
  const longest = (text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
}
