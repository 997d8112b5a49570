/**
 * Being online: an account's presence, the door for offers, and every payment shown once, in order, none missed. Whatever
 * brings the news (a push, an offer just settled, a new connection), what is shown comes from the account's history after
 * the last payment shown, so nothing is shown twice and nothing is lost while nobody listened.
 */
import { printable } from "../../base/text.ts";
import {
  internalError,
  isSealwireError,
  isWorthRetrying,
  SealwireError,
} from "../../base/errors.ts";
import { ShownMemory } from "./remembered.ts";
import { TREASURY } from "../../ledger/entry.ts";
import { openMemo, parseSealedMemo } from "../../protocol/sealing.ts";
import { PaymentClient, type PaymentClientOptions } from "./payer.ts";
import { OfferListener } from "./offer_listener.ts";
import type { ClientSession, LoginOptions } from "./session.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import type { KeyObject } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";

/** Between tries to come back online: doubling from the first to the last. */
const RECONNECT_PAUSE_FIRST_MS = 500;
const RECONNECT_PAUSE_LAST_MS = 15_000;

/** A payment that arrived. */
export interface Paid {
  readonly payment: string;
  readonly payer: string;
  readonly amount: string;
  readonly memo: string | null;
  /** The payee's balance after it. */
  readonly balance: string;
}

export interface ListenOptions extends PaymentClientOptions {
  /** What to publish as this client's address; null for the one that the server sees. */
  readonly p2pHost: string | null;
  /** Port to take offers on; 0 lets the system choose. */
  readonly p2pPort: number;
  readonly onPaid: (paid: Paid) => void;
}

export class Listening {
  private readonly shown: ShownMemory;
  private displaced = false;
  private leaving = false;
  private showing: Promise<void> | null = null;
  private showAgain = false;
  private door!: OfferListener;
  client!: PaymentClient;

  private constructor(private readonly options: ListenOptions) {
    this.shown = new ShownMemory(options.keysFolder, options.account);
  }

  /** Goes online. Throws what logging in and listening on a port throw. */
  static async start(options: ListenOptions): Promise<Listening> {
    const listening = new Listening(options);
    const { account, pair, now_s, p2pHost, p2pPort } = options;
    listening.door = await OfferListener.start({
      host: "0.0.0.0",
      port: p2pPort,
      account,
      accountKey: pair.publicKey.thumbprint,
      privateKey: pair.privateKey,
      server: () => listening.client.session.server.thumbprint,
      now_s,
      settle: async ({ order, delegation }) => {
        await listening.client.session.settle(order, delegation, []);
        listening.show();
      },
    });
    const login: LoginOptions = {
      presence: { host: p2pHost, port: listening.door.port },
      onSettled: () => listening.show(),
      onDisplaced: () => listening.displaced = true,
    };
    try {
      listening.client = await PaymentClient.open(options, login);
    } catch (error) {
      await listening.door.close();
      throw error;
    }
    return listening;
  }

  /** Where offers are taken. */
  get port(): number {
    return this.door.port;
  }

  /**
   * Stays online, coming back when the connection is lost, until {@linkcode close}.
   *
   * @throws {SealwireError} `displaced`; what reconnecting throws, once the server has been away for the timeout; the
   * signal's reason.
   */
  async stay(): Promise<void> {
    const { signal, notices } = this.options;
    const interrupted = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true })
    );
    this.show();
    while (true) {
      const { session } = this.client;
      await Promise.race([session.closed, interrupted]);
      signal.throwIfAborted();
      if (this.leaving) return;
      if (this.displaced) {
        throw new SealwireError(
          "displaced",
          "another listener of this account has taken this one's place",
        );
      }
      notices.note("the connection was lost; trying to come back");
      await this.comeBack(session);
      notices.note("online again");
      this.show();
    }
  }

  async close(): Promise<void> {
    this.leaving = true;
    await this.door.close();
    await this.showing;
    await this.client.end();
  }

  private async comeBack(lost: ClientSession): Promise<void> {
    const { timeout_ms, signal } = this.options;
    const until_ms = Date.now() + timeout_ms;
    let pause_ms = RECONNECT_PAUSE_FIRST_MS;
    while (true) {
      try {
        return await this.client.replace(lost);
      } catch (error) {
        if (!isWorthRetrying(error) || Date.now() + pause_ms > until_ms) throw error;
        await delay(pause_ms, undefined, { signal }).catch(() => signal.throwIfAborted());
        pause_ms = Math.min(pause_ms * 2, RECONNECT_PAUSE_LAST_MS);
      }
    }
  }

  /** Shows what has not been shown. */
  private show(): void {
    this.showAgain = true;
    this.showing ??= this.showAll().finally(() => this.showing = null);
  }

  private async showAll(): Promise<void> {
    while (this.showAgain) {
      this.showAgain = false;
      const { session } = this.client;
      const server = session.server.thumbprint;
      const after = this.shown.get(server);
      try {
        for await (const row of session.history(after ?? 0)) {
          await this.showRow(row, after === null);
        }
      } catch (error) {
        // A connection that went comes back, and then this is done again.
        if (!isSealwireError(error, "connection_lost")) {
          const why = printable(internalError(error).message);
          this.options.notices.warn(`cannot show what was paid: ${why}`);
        }
        return;
      }
    }
  }

  private async showRow(row: HistoryAnswerRow, first: boolean): Promise<void> {
    const { account, pair, onPaid } = this.options;
    const server = this.client.session.server.thumbprint;
    // What an account was opened with was shown when it was registered.
    const opening = first && row.payer === TREASURY && this.shown.get(server) === null;
    if (row.payee === account && !opening) {
      const { payment, payer, amount, balance } = row;
      onPaid({ payment, payer, amount, memo: await readMemo(row.memo, pair.privateKey), balance });
    }
    this.shown.set(server, row.seq);
  }
}

/** A row's memo as text, or null where there is none for this key. */
export async function readMemo(memo: unknown, privateKey: KeyObject): Promise<string | null> {
  if (memo === null || memo === undefined) return null;
  try {
    return await openMemo(parseSealedMemo(memo), privateKey);
  } catch {
    return null;
  }
}
