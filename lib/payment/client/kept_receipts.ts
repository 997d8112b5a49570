/**
 * Receipts on this machine's own disk: `<account>_receipts/`, a file each, named by the entry's
 * place in the ledger. They tell what was paid even where the server no longer does.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { systemErrorCode } from "../../base/errors.ts";
import { createFileAtomic, makeFolder, PRIVATE_FILE_MODE } from "../../base/files.ts";
import type { AccountName } from "../../keys/rsa.ts";
import type { Settled } from "./session.ts";

const INDEX_DIGITS = 16;
const NAME = /^(\d{16})_([0-9a-f-]{36})(?:_(\d{1,3}))?\.txt$/;

export interface KeptReceipt {
  readonly path: string;
  /** The entry's place in the ledger. */
  readonly index: number;
}

export class KeptReceipts {
  private readonly folder: string;

  constructor(keysFolder: string, account: AccountName) {
    this.folder = join(keysFolder, `${account}_receipts`);
  }

  /** Keeps a verified receipt. Throws `folder_unwritable`, `write_failed`. */
  keep({ payment: { index, id, item }, receipt }: Settled): void {
    makeFolder(this.folder);
    const place = String(index).padStart(INDEX_DIGITS, "0");
    const name = `${place}_${id}${item === null ? "" : `_${item}`}.txt`;
    createFileAtomic(join(this.folder, name), receipt, PRIVATE_FILE_MODE);
  }

  /** Those of entries from index `from` up to, without, `to`. */
  between(from: number, to: number): KeptReceipt[] {
    return this.names().flatMap((name) => {
      const index = Number(NAME.exec(name)?.[1] ?? NaN);
      return index >= from && index < to ? [{ path: join(this.folder, name), index }] : [];
    });
  }

  /**
   * The payments that the account has receipts of, in the ledger's order: `<id>`, `<id>/<index>`.
   */
  payments(): string[] {
    return this.names().flatMap((name) => {
      const [, , id, item] = NAME.exec(name) ?? [];
      return id === undefined ? [] : item === undefined ? id : `${id}/${item}`;
    });
  }

  private names(): string[] {
    try {
      return readdirSync(this.folder).sort();
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return [];
      throw error;
    }
  }
}
