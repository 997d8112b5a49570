/** The documents that people read, and what the tests look for in them. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Paths from the root of all documents. */
export const DOCUMENTS: readonly string[] = [
  ...readdirSync(ROOT).filter((name) => name.endsWith(".md")),
  ...readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md")).map((name) => `docs/${name.replaceAll("\\", "/")}`),
  "keys/README.md",
].sort();

export function readDocument(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

export function writeDocument(path: string, text: string): void {
  writeFileSync(join(ROOT, path), text);
}

/** A fenced block of a document. */
export interface Block {
  /** What stands after the opening fence. */
  readonly kind: string;
  readonly lines: readonly string[];
  /** Index of its first line in the document's lines. */
  readonly start: number;
}

export function blocksOf(text: string): Block[] {
  const lines = text.split("\n");
  const blocks: Block[] = [];
  let open: { kind: string; start: number } | null = null;
  for (const [at, line] of lines.entries()) {
    if (!line.startsWith("```")) continue;
    if (open === null) {
      open = { kind: line.slice(3).trim(), start: at + 1 };
    } else {
      blocks.push({ ...open, lines: lines.slice(open.start, at) });
      open = null;
    }
  }
  return blocks;
}

/** The text without its fenced blocks. */
export function proseOf(text: string): string {
  return text.replace(/^```[\s\S]*?^```$/gm, "");
}

/** The sections under headings of one level, by their titles. */
export function sectionsOf(text: string, level: number): Map<string, string> {
  const mark = "#".repeat(level);
  const parts = text.split(new RegExp(`^(?=#{1,${level}} )`, "m"));
  return new Map(
    parts.filter((part) => part.startsWith(`${mark} `)).map((part) => {
      const end = part.indexOf("\n");
      return [part.slice(mark.length + 1, end), part.slice(end)];
    }),
  );
}

/** The cells of each row of the tables in `text`, without the heads. */
export function tableRows(text: string): string[][] {
  const rows = text.split("\n").filter((line) => line.startsWith("|"))
    .map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim()));
  return rows.filter((_, at) => {
    const isRule = (row: string[] | undefined) => row?.every((cell) => /^-+$/.test(cell)) ?? false;
    return !isRule(rows[at]) && !isRule(rows[at + 1]);
  });
}

/** The anchors that a document's headings make. */
export function anchorsOf(text: string): string[] {
  return [...proseOf(text).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    title!.toLowerCase().replace(/[^\w\s-]/g, "").replaceAll(" ", "-")
  );
}
