/** Formats text for people: makes it safe for a terminal, and writes sizes and durations. */

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Makes text from others safe to put on a terminal. Control characters, line and paragraph
 * separators, lone surrogates, and characters that reorder or hide text (Unicode bidirectional and
 * zero-width controls) become visible escapes (`\u{1b}`).
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
export function printableJson(value: object): string {
  return JSON.stringify(value).replace(
    UNPRINTABLE,
    (characters) =>
      [...Array(characters.length).keys()].map((index) =>
        `\\u${characters.charCodeAt(index).toString(16).padStart(4, "0")}`
      ).join(""),
  );
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
