/**
 * A small JSON file with a version, which is always read and written whole:
 *
 *     {"v": 1, …}
 *
 * Nothing is kept in memory between two calls, so several processes may share the file. A file that
 * does not parse is an error and stays as it is: to start over would forget what it was kept for.
 */
import { Buffer } from "node:buffer";
import { SealwireError } from "./errors.ts";
import { withFileLock } from "./file_lock.ts";
import { PRIVATE_FILE_MODE, readTextFile, writeFileAtomic } from "./files.ts";
import { Members } from "./parse.ts";

/** What a {@linkcode JsonFile} holds, and how it is written. */
export interface JsonFormat<Content> {
  /** The value of `v`. */
  readonly version: number;
  readonly size_bytes_max: number;
  /** The error code for a file that cannot be read or does not parse. */
  readonly unreadable_code: SealwireError["code"];
  /** What to do about such a file. It follows a colon: `put back a copy`. */
  readonly advice: string;
  /** The names of all members beside `v`. A file with others does not parse. */
  readonly members: readonly string[];
  /** The content of a file that does not exist. A new value at each call. */
  empty(): Content;
  /** Parses the members. Throws where they are not what {@linkcode toJson} makes. */
  parse(members: Members): Content;
  toJson(content: Content): Record<string, unknown>;
}

export class JsonFile<Content> {
  constructor(readonly path: string, private readonly format: JsonFormat<Content>) {}

  /** Reads and parses the file. Throws the format's code. */
  read(): Content {
    const { size_bytes_max, unreadable_code: code, advice } = this.format;
    const text = readTextFile(this.path, { size_bytes_max, code });
    if (text === null) return this.format.empty();
    try {
      return this.parse(text);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const message = `${this.path} is not as it was written (${why}): ${advice}`;
      throw new SealwireError(code, message, { cause });
    }
  }

  /**
   * Reads the file, changes its content and writes it while no other process does. `change` returns
   * the new content, or null where the file is to stay as it is. Returns what the file holds then.
   *
   * @throws {SealwireError} the format's code, `file_locked`, `folder_unwritable`, `write_failed`;
   * what `change` and the format's `toJson` throw. The file is then untouched.
   */
  update(change: (content: Content) => Content | null): Content {
    return withFileLock(this.path, () => {
      const before = this.read();
      const after = change(before);
      if (after === null) return before;
      const content = { v: this.format.version, ...this.format.toJson(after) };
      const text = JSON.stringify(content, null, 2) + "\n";
      this.requireReadable(text);
      writeFileAtomic(this.path, text, PRIVATE_FILE_MODE);
      return after;
    });
  }

  /** A file that cannot be read back must not replace one that can. */
  private requireReadable(text: string): void {
    this.parse(text);
    const { size_bytes_max } = this.format;
    if (Buffer.byteLength(text) <= size_bytes_max) return;
    const message = `cannot write ${this.path}: it would be longer than ${size_bytes_max} bytes`;
    throw new SealwireError("write_failed", message);
  }

  private parse(text: string): Content {
    const { version, unreadable_code, members: names } = this.format;
    const members = new Members(JSON.parse(text), "its content", unreadable_code);
    members.constant("v", version);
    members.requireExactly("v", ...names);
    return this.format.parse(members);
  }
}
