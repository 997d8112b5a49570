/** What the payment server and its clients agree on, besides JSON-RPC itself: PROTOCOL.md describes it. */
import type { RsaPublicJwk } from "../keys/rsa.ts";

/** ALPN protocol name (RFC 7301) of version 1. */
export const ALPN = "sealwire/1";
/** Rows of a page of a list, a history or a chain of headers. */
export const PAGE_ROWS_MAX = 100;
/** A request with a batch's items. */
export const BATCH_LINE_BYTES_MAX = 512 * 1024;
/** The lowest port that a listener may publish. */
export const P2P_PORT_MIN = 1024;

/** Where someone online takes offers. */
export interface OnlineRow {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Thumbprint of the account's key. */
  readonly fingerprint: string;
}

export interface HelloAnswer {
  readonly v: 1;
  readonly server: RsaPublicJwk;
  readonly nonce: string;
}

export interface LoginAnswer {
  readonly account: string;
  readonly balance: string;
  /** The newest block header. */
  readonly head: string | null;
}

/** Also what `payment.settled` brings. */
export interface SettledAnswer {
  readonly state: "settled";
  /** Absent for a batch, whose receipts are asked for one by one, and for what a classic account paid, which has none. */
  readonly receipt?: string;
  /** The balance of whom this is sent to, after the payment. */
  readonly balance: string;
}

export interface HistoryAnswer {
  readonly rows: readonly HistoryAnswerRow[];
  /** Pass as `after` for the next page; null at the end. */
  readonly next: number | null;
}

export interface HistoryAnswerRow {
  readonly seq: number;
  readonly payment: string;
  readonly time: number;
  readonly payer: string;
  readonly payee: string;
  readonly amount: string;
  readonly memo: unknown;
  readonly balance: string;
}
