/**
 * `--out -`: what one client sends goes to standard output. Files are received into a folder of
 * their own first, so that nothing is let out before its end has been authenticated.
 */
import { closeSync, openSync, readSync, rmSync } from "node:fs";
import { makeTemporaryFolder, type TemporaryFolder } from "./temporary_folder.ts";

const PIECE_BYTES = 256 * 1024;

export class ReceivedPipe {
  private constructor(
    private readonly temporary: TemporaryFolder,
    /** Writes all of the bytes, which may be used again then. */
    private readonly output: (bytes: Uint8Array) => void,
  ) {}

  static open(output: (bytes: Uint8Array) => void): ReceivedPipe {
    return new ReceivedPipe(makeTemporaryFolder("sealwire-out-"), output);
  }

  /** Where files are received. */
  get folder(): string {
    return this.temporary.path;
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
    this.temporary.remove();
  }
}
