// The text of a PDF, after ISO 32000-1: enough of the format for documents that programs wrote. Scans, and fonts that don't
// say which letters they draw, give no text; encrypted and damaged files are told apart, so that the reader hears why.

import { PdfFile } from "./pdf/file.js";
import { layOut } from "./pdf/layout.js";
import { PageReader } from "./pdf/page.js";

const MAX_PAGES = 2000;

/**
 * Return `{text, trouble}`: the text, a blank line between pages, of no more pages than make `maxLength` characters; or
 * why there is none, as the key of the words for it.
 */
export async function readPdf(bytes, maxLength = Infinity) {
  const file = new PdfFile(bytes);
  await file.open();
  if (file.isEncrypted) return { text: "", trouble: "fileEncrypted" };
  const pages = pagesOf(file);
  if (pages.length === 0) return { text: "", trouble: "fileDamaged" };
  const reader = new PageReader(file);
  let text = "";
  for (const page of pages) {
    if (text.length > maxLength) break;
    text += `\n\n${layOut(await reader.read(page))}`;
  }
  text = text.trim().replace(/\n{3,}/g, "\n\n");
  return { text, trouble: text !== "" ? null : "fileNoPdfText" };
}

/** Pages in the order of the page tree; of a file without one, as they stand in the file. */
function pagesOf(file) {
  const pages = [];
  const seen = new Set();
  let waiting = [file.pageTree];
  while (waiting.length > 0 && pages.length < MAX_PAGES) {
    const node = waiting.shift();
    if (!(node instanceof Map) || seen.has(node)) continue;
    seen.add(node);
    if (node.has("Kids")) waiting = [...file.list(node, "Kids"), ...waiting];
    else pages.push(node);
  }
  return pages.length > 0 ? pages : file.ofType("Page").slice(0, MAX_PAGES);
}
