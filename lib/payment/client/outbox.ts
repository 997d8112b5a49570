/**
 * The outbox holds signed orders whose end is not known yet. An order is stored here, synced,
 * before it leaves. It is removed only when its end is known. So after any crash the next start
 * resolves the same bytes, and never signs a second order in their place.
 */
import { readdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { SealwireError, systemErrorCode } from "../../base/errors.ts";
import { createFileAtomic, makeFolder, PRIVATE_FILE_MODE, readTextFile } from "../../base/files.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { BATCH_ITEMS_MAX, type BatchOrder, type Order, parseOrder } from "../../protocol/order.ts";
import { Members, type Uuid } from "../../base/parse.ts";
import type { Token } from "../../protocol/token.ts";

const ORDERS_MAX = 1_000;
const FILE_BYTES_MAX = 1024 * 1024;
const TOKEN_CHARACTERS_MAX = 16_384;

/** One order under way. */
export interface Pending {
  readonly order: Token<Order | BatchOrder>;
  readonly delegation: string;
  /** A batch's items; empty for a plain order. */
  readonly items: readonly string[];
  /** `--direct`: cancel it rather than settle it without the payee's client. */
  readonly direct: boolean;
}

export class Outbox {
  private readonly folder: string;

  constructor(keysFolder: string, account: AccountName) {
    this.folder = join(keysFolder, `${account}_outbox`);
  }

  /**
   * Stores an order before it leaves. Returns when it is on the disk.
   *
   * @throws {SealwireError} `outbox_full`, `order_conflict` (the id is in the outbox),
   * `folder_unwritable`, `write_failed`: the order must not leave then.
   */
  add({ order, delegation, items, direct }: Pending): void {
    makeFolder(this.folder);
    if (this.ids().length >= ORDERS_MAX) {
      throw new SealwireError(
        "outbox_full",
        `${this.folder} holds ${ORDERS_MAX} unresolved payments`,
      );
    }
    const text = JSON.stringify({ v: 1, order: order.text, delegation, items, direct });
    if (!createFileAtomic(this.path(order.claims.id), text, PRIVATE_FILE_MODE)) {
      throw new SealwireError(
        "order_conflict",
        `payment ${order.claims.id} is in the outbox already`,
      );
    }
  }

  /** Removes an order whose end is known. */
  remove(id: Uuid): void {
    try {
      unlinkSync(this.path(id));
    } catch (error) {
      // Another process that resolved the same order has removed it.
      if (systemErrorCode(error) !== "ENOENT") throw error;
    }
  }

  get(id: Uuid): Pending | null {
    const path = this.path(id);
    const text = readTextFile(path, { size_bytes_max: FILE_BYTES_MAX, code: "outbox_unreadable" });
    return text === null ? null : parsePending(path, text);
  }

  all(): Pending[] {
    return this.ids().flatMap((id) => this.get(id) ?? []);
  }

  /** Throws `outbox_unreadable`. */
  ids(): Uuid[] {
    try {
      const names = readdirSync(this.folder).filter((name) => name.endsWith(".json"));
      return names.sort().map((name) => name.slice(0, -".json".length) as Uuid);
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return [];
      throw new SealwireError("outbox_unreadable", `cannot read ${this.folder}`, { cause: error });
    }
  }

  private path(id: Uuid): string {
    return join(this.folder, `${id}.json`);
  }
}

function parsePending(path: string, text: string): Pending {
  try {
    const members = new Members(JSON.parse(text), "outbox", "outbox_unreadable");
    members.constant("v", 1);
    return {
      order: parseOrder(members.text("order", TOKEN_CHARACTERS_MAX)),
      delegation: members.text("delegation", TOKEN_CHARACTERS_MAX),
      items: members.list("items", BATCH_ITEMS_MAX).map(String),
      direct: members.raw("direct") === true,
    };
  } catch (cause) {
    throw new SealwireError("outbox_unreadable", `${path} is not what was stored there`, { cause });
  }
}
