/** Fits text to the columns of a terminal. */
import process from "node:process";

/** Where nothing says how wide a terminal is. */
export const COLUMNS_DEFAULT = 80;
const COLUMNS_MIN = 20;

const SEGMENTER = new Intl.Segmenter();
/** Marks that are drawn over the character before them, and what is not drawn at all. */
const NO_COLUMN = /^[\p{Mn}\p{Me}\p{Cf}\u200b\ufe0e\ufe0f]+$/u;
/** East Asian Wide and Fullwidth (UAX #11), in ranges, and pictures. */
const WIDE =
  /^[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{17000}-\u{18dff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|^\p{Emoji}\ufe0f/u;

/** The columns of the terminal that `stream` is, or {@linkcode COLUMNS_DEFAULT}. */
export function columnsOf(stream: { readonly columns?: number } = process.stderr): number {
  return Math.max(COLUMNS_MIN, stream.columns || COLUMNS_DEFAULT);
}

/** How many columns `text`, a line without control characters, takes. */
export function displayWidth(text: string): number {
  let columns = 0;
  for (const { segment } of SEGMENTER.segment(text)) columns += widthOf(segment);
  return columns;
}

/** `text` in at most `columns`; where it is cut, its last character is `…`. */
export function truncated(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let taken = "";
  let width = 0;
  for (const { segment } of SEGMENTER.segment(text)) {
    width += widthOf(segment);
    if (width > columns - 1) break;
    taken += segment;
  }
  return columns < 1 ? "" : `${taken}…`;
}

/** `text` and spaces up to `columns`. */
export function padded(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - displayWidth(text)));
}

/** `text` in lines of at most `columns`, broken between words. A longer word stands alone. */
export function wrapped(text: string, columns: number): string {
  return text.split("\n").map((line) => {
    if (displayWidth(line) <= columns) return line;
    const indent = /^ */.exec(line)![0];
    const lines: string[] = [];
    let current = "";
    for (const word of line.trim().split(/ +/)) {
      const longer = current === "" ? indent + word : `${current} ${word}`;
      if (current === "" || displayWidth(longer) <= columns) {
        current = longer;
        continue;
      }
      lines.push(current);
      current = indent + word;
    }
    return [...lines, current].join("\n");
  }).join("\n");
}

function widthOf(grapheme: string): number {
  if (NO_COLUMN.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}
