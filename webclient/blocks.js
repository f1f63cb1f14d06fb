// An answer's text, split into paragraphs and fenced code blocks; knows nothing of the DOM.
//
// This is deliberately not Markdown: only what makes an answer readable and its code copyable. It runs on text that is
// still growing, so the last block is simply what is there so far, and a last line that may yet become a fence is
// held back rather than flashed at the reader.

const OPENING = /^(\s*)(`{3,}|~{3,})\s*([^`]*)$/;
const MAYBE_FENCE = /^\s*(`{1,2}|~{1,2})$/;

/**
 * Return the blocks of `text`, each `{kind: "paragraph" | "code", text, language}`.
 * `isGrowing` says that more text may come.
 */
export function splitBlocks(text, { isGrowing = false } = {}) {
  const lines = text.split("\n");
  const lastIndex = lines.length - 1;
  if (isGrowing && MAYBE_FENCE.test(lines[lastIndex])) lines.pop();

  const blocks = [];
  let paragraph = [];
  let code = null;
  const endParagraph = () => {
    if (paragraph.length > 0) blocks.push({ kind: "paragraph", text: paragraph.join("\n"), language: "" });
    paragraph = [];
  };
  const endCode = () => {
    blocks.push({ kind: "code", text: code.lines.join("\n"), language: code.language });
    code = null;
  };

  lines.forEach((line, index) => {
    if (code) {
      if (isClosing(line, code.fence)) endCode();
      else code.lines.push(withoutIndent(line, code.indent));
      return;
    }
    const opening = OPENING.exec(line);
    if (opening) {
      endParagraph();
      const [, indent, fence, info] = opening;
      const isWhole = !isGrowing || index < lastIndex;
      code = { indent, fence, language: isWhole ? info.trim().split(/\s/)[0] : "", lines: [] };
    } else if (line.trim() === "") endParagraph();
    else paragraph.push(line);
  });
  if (code) {
    // The line break before a fence that is still to come is not a line of code.
    if (isGrowing && code.lines.at(-1) === "") code.lines.pop();
    endCode();
  }
  endParagraph();
  return blocks;
}

function isClosing(line, fence) {
  const mark = line.trim();
  return mark.length >= fence.length && mark === fence[0].repeat(mark.length);
}

function withoutIndent(line, indent) {
  return line.startsWith(indent) ? line.slice(indent.length) : line.trimStart();
}
