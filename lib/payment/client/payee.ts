/**
 * The payee's client: an account's presence, its listener for offers, and every payment shown once,
 * in order, none missed.
 *
 * Whatever brings the news (a notification, an offer just settled, a new connection), what is shown
 * comes from the account's history after the last payment shown. So nothing is shown twice, and
 * nothing is lost while nobody listened.
 */
import { untilAborted } from "../../base/abort.ts";
import {
  internalError,
  isSealwireError,
  isServerUntrusted,
  isWorthRetrying,
  SealwireError,
} from "../../base/errors.ts";
import { BoundedMap } from "../../base/bounded_map.ts";
import { retry } from "../../base/retry.ts";
import { printable } from "../../base/text.ts";
import type { Order } from "../../protocol/order.ts";
import { TREASURY } from "../../protocol/party.ts";
import { type Offer, openMemo, parseSealedMemo } from "../../protocol/sealing.ts";
import type { Token } from "../../protocol/token.ts";
import type { HistoryAnswerRow, RequestAnswer } from "../../protocol/wire.ts";
import { OfferListener } from "./offer_listener.ts";
import { PaymentClient, type PaymentClientOptions } from "./payer.ts";
import { ShownPayments } from "./remembered.ts";
import type { ClientSession, LoginOptions } from "./session.ts";

/** Between tries to come back online: doubling from the first to the last. */
const RECONNECT_PAUSE_MIN_MS = 500;
const RECONNECT_PAUSE_MAX_MS = 4_000;
/** Requests that are not shown again after a lost connection. */
const SHOWN_REQUESTS_MAX = 1_000;

/** A payment that arrived. */
export interface Paid {
  readonly payment: string;
  readonly payer: string;
  readonly amount: string;
  readonly memo: string | null;
  /** The payee's request that it pays. */
  readonly request?: string;
  /** This account's own payment that it gives back. */
  readonly refund_of?: string;
  /** The payee's balance after it. */
  readonly balance: string;
}

export interface ListenOptions extends PaymentClientOptions {
  /** What to publish as this client's address; null for the one that the server sees. */
  readonly p2pHost: string | null;
  /** Port to take offers on; 0 lets the system choose. */
  readonly p2pPort: number;
  readonly onPaid: (paid: Paid) => void;
  /** How long to try to come back when the connection is lost. */
  readonly reconnect_ms: number;
  /** This account is asked for money, or a request of this account, as payee or payer, has ended unpaid. */
  readonly onRequest: (request: RequestAnswer, memo: string | null) => void;
}

export class Listening {
  private readonly shown: ShownPayments;
  private readonly shownRequests = new BoundedMap<string, true>(SHOWN_REQUESTS_MAX);
  private online = false;
  private wasOnline = false;
  private displaced = false;
  private leaving = false;
  private showing: Promise<void> | null = null;
  private showAgain = false;
  private listener!: OfferListener;
  client!: PaymentClient;

  private constructor(private readonly options: ListenOptions) {
    this.shown = new ShownPayments(options.keysFolder, options.account);
  }

  /** Goes online. Throws what logging in and listening on a port throw. */
  static async start(options: ListenOptions): Promise<Listening> {
    const listening = new Listening(options);
    const { account, pair, now_s, p2pHost, p2pPort } = options;
    listening.listener = await OfferListener.start({
      host: "0.0.0.0",
      port: p2pPort,
      account,
      accountKey: pair.publicKey.thumbprint,
      privateKey: pair.privateKey,
      server: () => listening.client.session.server.thumbprint,
      now_s,
      settle: (offer, order) => listening.settle(offer, order),
    });
    const login: LoginOptions = {
      presence: { host: p2pHost, port: listening.listener.port },
      onSettled: () => listening.show(),
      onRequest: (request) => void listening.showRequest(request),
      onDisplaced: () => listening.displaced = true,
      onDisplacing: () => {
        // Of its own lost connection a client that comes back knows.
        if (listening.wasOnline) return;
        options.notices.note(
          `another listener of ${account} was online, and has been told that this one takes its place`,
        );
      },
    };
    try {
      listening.client = await PaymentClient.open(options, login);
      listening.online = true;
      listening.wasOnline = true;
    } catch (error) {
      await listening.listener.close();
      throw error;
    }
    return listening;
  }

  /** False while the connection is lost. */
  get isOnline(): boolean {
    return this.online;
  }

  /** Where offers are taken. */
  get port(): number {
    return this.listener.port;
  }

  /**
   * Stays online, coming back when the connection is lost, until {@linkcode close}.
   *
   * @throws {SealwireError} `displaced`; `ledger_not_linked` and `ledger_forked`; what reconnecting
   * throws, once the server has been away for the timeout; the signal's reason.
   */
  async stay(): Promise<void> {
    const { signal, notices } = this.options;
    const interrupted = untilAborted(signal);
    this.show();
    void this.showRequests();
    while (true) {
      const { session } = this.client;
      const distrusted = await Promise.race([
        session.closed.then((reason) => isServerUntrusted(reason) ? reason : null),
        interrupted.then(() => null),
      ]);
      signal.throwIfAborted();
      if (distrusted !== null) throw distrusted;
      if (this.leaving) return;
      if (this.displaced) {
        throw new SealwireError(
          "displaced",
          "another listener of this account has taken this one's place, and takes its payments now",
        );
      }
      this.online = false;
      notices.note("the connection was lost; trying to come back");
      await this.comeBack(session);
      this.online = true;
      notices.note("online again");
      this.show();
      await this.resolveOutbox();
      void this.showRequests();
    }
  }

  async close(): Promise<void> {
    this.leaving = true;
    await this.listener.close();
    await this.showing;
    this.shown.close();
    await this.client.end();
  }

  private async comeBack(lost: ClientSession): Promise<void> {
    const { reconnect_ms: timeout_ms, signal } = this.options;
    await retry(() => this.client.replace(lost), {
      pause_ms_min: RECONNECT_PAUSE_MIN_MS,
      pause_ms_max: RECONNECT_PAUSE_MAX_MS,
      timeout_ms,
      signal,
      isPassing: isWorthRetrying,
    });
  }

  /**
   * Says what became of payments that were under way. What cannot be asked now is asked after the
   * next loss.
   */
  private async resolveOutbox(): Promise<void> {
    try {
      await this.client.resolveOutbox();
    } catch (error) {
      if (!isWorthRetrying(error) && !isSealwireError(error, "outcome_unknown")) throw error;
    }
  }

  /** Has an offer settled, and compares the payer's ledger with this one. */
  private async settle({ delegation, checkpoint }: Offer, order: Token<Order>): Promise<void> {
    await this.client.settleOffer(order, delegation);
    this.show();
    if (checkpoint === null) return;
    // The payer has been answered for long when a late server has been asked again.
    void this.client.session.linkForeign(checkpoint);
  }

  /**
   * Shows what has not been shown. What is settled before this client is online, {@linkcode stay}
   * shows.
   */
  private show(): void {
    if (!this.online) return;
    this.showAgain = true;
    this.showing ??= this.showAll().finally(() => this.showing = null);
  }

  private async showAll(): Promise<void> {
    while (this.showAgain) {
      this.showAgain = false;
      const after = this.shown.get(this.client.session.server.thumbprint);
      try {
        for await (const page of this.client.session.historyPages(after ?? 0)) {
          await this.showPage(page, after === null);
          this.shown.sync();
        }
      } catch (error) {
        // A connection that went comes back, and then this is done again.
        if (!isWorthRetrying(error)) {
          const why = printable(internalError(error).message);
          this.options.notices.warn(`cannot show what was paid: ${why}`);
        }
        return;
      }
    }
  }

  /** `first`: nothing has ever been shown to this account. */
  private async showPage(page: readonly HistoryAnswerRow[], first: boolean): Promise<void> {
    const { account } = this.options;
    const server = this.client.session.server.thumbprint;
    for (const [at, row] of page.entries()) {
      // What an account was opened with was shown when it was registered.
      const opening = first && row.payer === TREASURY && this.shown.get(server) === null;
      if (row.payee === account && !opening) await this.showRow(row);
      // A batch may pay an account several times by one entry, which has been shown when the last
      // of them has.
      if (page[at + 1]?.index !== row.index) this.shown.set(server, row.index);
    }
  }

  private async showRow(row: HistoryAnswerRow): Promise<void> {
    await this.client.prove(row);
    const { payment, payer, amount, memo, request, refund_of, balance } = row;
    const text = await readMemo(memo, this.options);
    const purpose = { ...(request && { request }), ...(refund_of && { refund_of }) };
    this.options.onPaid({ payment, payer, amount, memo: text, ...purpose, balance });
  }

  /** Shows what this account is asked for, once for each change. */
  private async showRequests(): Promise<void> {
    const { account, notices, now_s } = this.options;
    try {
      for (const request of await this.client.session.requests()) {
        const isOpen = request.state === "pending" && request.expires > now_s();
        if (isOpen && request.payer === account) await this.showRequest(request);
      }
    } catch (error) {
      if (isWorthRetrying(error)) return;
      notices.warn(`cannot show what is asked for: ${printable(internalError(error).message)}`);
    }
  }

  private async showRequest(request: RequestAnswer): Promise<void> {
    const key = `${request.payee} ${request.id} ${request.state}`;
    const isOwn = request.state === "pending" && request.payer !== this.options.account;
    if (isOwn || this.shownRequests.get(key)) return;
    this.shownRequests.set(key, true);
    this.options.onRequest(request, await readRequestMemo(request, this.options));
  }
}

/** A row's memo as text, or null where there is none for these keys. */
export async function readMemo(
  memo: unknown,
  { pair, oldKeys }: Pick<PaymentClientOptions, "pair" | "oldKeys">,
): Promise<string | null> {
  if (memo === null || memo === undefined) return null;
  try {
    const sealed = parseSealedMemo(memo);
    for (const key of [pair.privateKey, ...oldKeys]) {
      const text = await openMemo(sealed, key);
      if (text !== null) return text;
    }
    return null;
  } catch {
    return null;
  }
}

/** What a request is for. The memo of one that anyone may pay is clear text. */
export async function readRequestMemo(
  { payer, memo }: RequestAnswer,
  options: Pick<PaymentClientOptions, "pair" | "oldKeys">,
): Promise<string | null> {
  if (payer === null && typeof memo === "string") return memo;
  return await readMemo(memo, options);
}
