/** Formats text for people: makes it safe for a terminal, and writes sizes and durations. */

/**
 * Characters that control, reorder, hide or show nothing. Those that Unicode lets a font ignore (DI)
 * are among them, such as U+3164, and the empty Braille pattern U+2800. U+FE0F stays where it makes a
 * picture of an emoji.
 */
const UNPRINTABLE =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u2800]|(?!\ufe0f)\p{DI}|(?<!\p{Extended_Pictographic})\ufe0f/gu;

/**
 * Makes text from others safe to put on a terminal. Control characters, line and paragraph
 * separators, lone surrogates, invisible characters, and those that reorder text become visible
 * escapes (`\u{1b}`).
 */
export function printable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

/**
 * Formats a value as JSON that is safe on a terminal: each character that {@linkcode printable}
 * escapes is written as `\\u` and four digits.
 */
export function printableJson(value: object | string): string {
  return JSON.stringify(value).replace(
    UNPRINTABLE,
    (characters) =>
      [...Array(characters.length).keys()].map((index) =>
        `\\u${characters.charCodeAt(index).toString(16).padStart(4, "0")}`
      ).join(""),
  );
}

/**
 * Quotes text from others as a JSON string that is safe on a terminal. Quotes in it are escaped, so
 * it cannot pass for words of the tool.
 */
export function quoted(text: string): string {
  return printableJson(text);
}

/** Formats a size: `1536` is `1.5 KiB`. */
export function formatBytes(size_bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = size_bytes;
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index++;
  }
  return `${index === 0 ? Math.round(value) : value.toFixed(1)} ${units[index]}`;
}

/** Formats a duration in seconds: `75` is `1m15s`. */
export function formatDuration(duration_s: number): string {
  const whole_s = Math.max(0, Math.ceil(duration_s));
  const minutes = Math.floor(whole_s / 60);
  return minutes > 0 ? `${minutes}m${String(whole_s % 60).padStart(2, "0")}s` : `${whole_s}s`;
}
