/** A folder of its own in the system's folder for temporary files. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

export interface TemporaryFolder {
  readonly path: string;
  /** Removes the folder and all that is in it. */
  readonly remove: () => void;
}

/** Makes a folder whose name begins with `prefix`. Only this user can enter it. */
export function makeTemporaryFolder(prefix: string): TemporaryFolder {
  const path = mkdtempSync(join(process.env.TMPDIR || "/tmp", prefix));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
