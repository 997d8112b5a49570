/** Finds out how many files this process may have open. Each connection is one. */
import { closeSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { systemErrorCode } from "../base/errors.ts";

/** The system's codes for a process, and a machine, that has too many files open. */
const TOO_MANY = new Set(["EMFILE", "ENFILE"]);

/**
 * How many files this process may have open, or `enough` where it may have at least as many.
 *
 * Linux tells in `/proc/self/limits`. Deno reads that only with all permissions, so where it cannot
 * be read, this opens one file again and again until the system refuses. 20,000 times take 0.1 to
 * 0.4 s. Call it before anything else needs files.
 */
export function openFilesMax(enough: number): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ??
      [];
    if (soft !== undefined) return Math.min(Number(soft), enough);
  } catch {
    // Not Linux, or not allowed.
  }
  return countOpenable(enough);
}

function countOpenable(enough: number): number {
  const files: number[] = [];
  try {
    while (files.length < enough) files.push(openSync(process.execPath, "r"));
  } catch (error) {
    // Any other refusal says nothing about the number.
    if (!TOO_MANY.has(systemErrorCode(error) ?? "")) return enough;
  } finally {
    for (const file of files) closeSync(file);
  }
  return files.length;
}
