/**
 * `--out -`: what one client sends goes to standard output. Files are received into a folder of
 * their own first, so that nothing is let out before its end has been authenticated.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const PIECE_BYTES = 256 * 1024;

export class ReceivedPipe {
  private constructor(
    /** Where files are received. */
    readonly folder: string,
    /** Writes all of the bytes, which may be used again then. */
    private readonly output: (bytes: Uint8Array) => void,
  ) {}

  static open(output: (bytes: Uint8Array) => void): ReceivedPipe {
    return new ReceivedPipe(mkdtempSync(temporaryPath("sealwire-out-")), output);
  }

  write(message: Uint8Array): void {
    this.output(message);
  }

  writeFile(path: string): void {
    const file = openSync(path, "r");
    try {
      const piece = new Uint8Array(PIECE_BYTES);
      for (let size; (size = readSync(file, piece)) > 0;) this.output(piece.subarray(0, size));
    } finally {
      closeSync(file);
    }
    rmSync(path);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A path in the system's folder for temporary files. */
export function temporaryPath(name: string): string {
  return join(process.env.TMPDIR || "/tmp", name);
}
