/**
 * What an account's client remembers of each server between runs: the highest block header it has verified, by which a
 * ledger that was replaced is seen, and the last payment it has shown, by which each is shown once.
 */
import { join } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { PRIVATE_FILE_MODE, readTextFile, writeFileAtomic } from "../../base/files.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { parseHeader, type SignedHeader } from "../../ledger/block.ts";
import { Members, type Sha256 } from "../../base/parse.ts";

const FILE_BYTES_MAX = 1024 * 1024;

/** One small JSON file with a value for each server, by the thumbprint of its key. */
class ServerMemory<T> {
  private readonly path: string;

  constructor(
    folder: string,
    name: string,
    private readonly parse: (value: unknown) => T,
    private readonly toJson: (value: T) => unknown,
  ) {
    this.path = join(folder, name);
  }

  get(server: Sha256): T | null {
    const value = this.read()[server];
    return value === undefined ? null : this.parsed(() => this.parse(value));
  }

  set(server: Sha256, value: T): void {
    const text = JSON.stringify({ ...this.read(), [server]: this.toJson(value) });
    writeFileAtomic(this.path, text, PRIVATE_FILE_MODE);
  }

  private read(): Record<string, unknown> {
    const options = { size_bytes_max: FILE_BYTES_MAX, code: "memory_unreadable" } as const;
    const text = readTextFile(this.path, options) ?? "{}";
    return this.parsed(() => {
      const value: unknown = JSON.parse(text);
      void new Members(value, "memory", "memory_unreadable");
      return value as Record<string, unknown>;
    });
  }

  private parsed<V>(parse: () => V): V {
    try {
      return parse();
    } catch (cause) {
      throw new SealwireError("memory_unreadable", `${this.path} is not what was stored there`, {
        cause,
      });
    }
  }
}

/** The highest header verified: `<name>_head.json`. */
export class HeadMemory {
  private readonly file: ServerMemory<SignedHeader>;

  constructor(folder: string, account: AccountName) {
    this.file = new ServerMemory(folder, `${account}_head.json`, parseHeader, ({ text }) => text);
  }

  get(server: Sha256): SignedHeader | null {
    return this.file.get(server);
  }

  /** Remembers a verified header unless a higher one is known. */
  raise(header: SignedHeader): void {
    const { server, height } = header.claims;
    if (height > (this.get(server)?.claims.height ?? 0)) this.file.set(server, header);
  }
}

/** `seq` of the last payment shown: `<name>_shown.json`. */
export class ShownMemory {
  private readonly file: ServerMemory<number>;

  constructor(folder: string, account: AccountName) {
    const parse = (value: unknown) =>
      new Members({ seq: value }, "memory", "memory_unreadable").integer(
        "seq",
        0,
        Number.MAX_SAFE_INTEGER,
      );
    this.file = new ServerMemory(folder, `${account}_shown.json`, parse, (seq) => seq);
  }

  get(server: Sha256): number | null {
    return this.file.get(server);
  }

  set(server: Sha256, seq: number): void {
    this.file.set(server, seq);
  }
}
