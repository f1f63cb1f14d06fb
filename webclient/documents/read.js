// A file as something that can be attached: its text, or a picture the model can take. What can't be is said by name.

import { readPdf } from "./pdf.js";

const MAX_TEXT_BYTES = 3_000_000;
const MAX_FILE_BYTES = 40_000_000;
const MAX_PIXELS = 1024; // of a picture's longer side; models see no more

export class FileTrouble extends Error {
  /** `reason` is the key of the words for it. */
  constructor(reason, name) {
    super(reason);
    this.reason = reason;
    this.fileName = name;
  }
}

/** Return `{kind: "text" | "image", name, text | data}`. Raises FileTrouble. */
export async function readAttachment(file, { canSee }) {
  const { name } = file;
  if (file.size > MAX_FILE_BYTES) throw new FileTrouble("fileTooLarge", name);
  if (file.type.startsWith("image/") && file.type !== "image/svg+xml") {
    if (!canSee) throw new FileTrouble("imageUnseen", name);
    return { kind: "image", name, data: await pictureOf(file) };
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isPdf = String.fromCharCode(...bytes.subarray(0, 5)) === "%PDF-";
  const { text, trouble } = isPdf ? await readPdf(bytes, MAX_TEXT_BYTES).catch(unforeseen) : { text: textOf(bytes), trouble: null };
  if (trouble) throw new FileTrouble(trouble, name);
  if (text === null) throw new FileTrouble("fileUnreadable", name);
  if (text.length > MAX_TEXT_BYTES) throw new FileTrouble("fileTooLarge", name);
  return { kind: "text", name, text };
}

/** A file that is broken in a way that nobody thought of; the console hears of it. */
function unforeseen(error) {
  reportError(error);
  return { trouble: "fileDamaged" };
}

/** The text that bytes are, or null when they are none: UTF-8, UTF-16 with its mark, else Windows' Latin. */
export function textOf(bytes) {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  if (bytes.subarray(0, 65536).includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const text = new TextDecoder("windows-1252").decode(bytes);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    const numControls = (text.match(/[\u0001-\u0008\u000e-\u001f]/g) ?? []).length;
    return numControls > text.length / 100 ? null : text;
  }
}

async function pictureOf(file) {
  const picture = await createImageBitmap(file).catch(() => {
    throw new FileTrouble("fileUnreadable", file.name);
  });
  const scale = Math.min(1, MAX_PIXELS / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG knows no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9);
}
