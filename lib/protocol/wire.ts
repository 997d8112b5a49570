/** What the payment server and its clients agree on, besides JSON-RPC itself. */

/** ALPN protocol name (RFC 7301) of version 2. */
export const ALPN = "sealwire/2";
export const PROTOCOL_VERSION = 2;
/** Rows of a page of a list. */
export const PAGE_ROWS_MAX = 100;
/** Rows of a page of a history: the last entry of a page may be a batch. */
export const HISTORY_ROWS_MAX = 1_100;
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
  readonly v: typeof PROTOCOL_VERSION;
  /** The server statement, a JWS. */
  readonly statement: string;
  /** 32 bytes, base64url, that the login's delegation must name. */
  readonly nonce: string;
}

/** An entry and the proof that it is in the log of `size` entries. */
export interface ProofAnswer {
  readonly entry: string;
  /** The inclusion proof, base64 as in a tlog-proof, 32 bytes a step. */
  readonly path: readonly string[];
  readonly size: number;
  /** The signed note of that size; left out when this connection has been sent it before. */
  readonly checkpoint?: string;
}

export interface LoginAnswer {
  readonly account: string;
  readonly balance: string;
  readonly size: number;
  readonly checkpoint?: string;
  /** From the checkpoint that the client showed to this one, base64; null when the log did not grow out of that. */
  readonly consistency: readonly string[] | null;
}

/** Also what `payment.settled` brings. */
export interface SettledAnswer extends ProofAnswer {
  readonly state: "settled";
  /** Left out in the answer to whoever sent them, and for what nobody signed. */
  readonly order?: string;
  readonly delegation?: string;
  /** One item of a batch and its path to `items_root`, or all items for the batch's payer. */
  readonly item?: string;
  readonly item_path?: readonly string[];
  readonly items?: readonly string[];
  /** The asker's balance after the payment. */
  readonly balance: string;
}

export type PaymentAnswer =
  | { readonly state: "unknown" }
  | { readonly state: "cancelled" }
  | SettledAnswer;

export interface RequestAnswer {
  readonly id: string;
  readonly payee: string;
  /** Null: anyone may pay it. */
  readonly payer: string | null;
  readonly amount: string;
  /** Sealed to payee and payer; clear text where anyone may pay; null for none. */
  readonly memo: unknown;
  readonly created: number;
  readonly expires: number;
  readonly state: "pending" | "declined" | "withdrawn" | "paid";
  /** The entry that paid it. */
  readonly index?: number;
}

export interface HistoryAnswer {
  readonly rows: readonly HistoryAnswerRow[];
  /** Pass as `after` for the next page; null at the end. */
  readonly next: number | null;
}

export interface HistoryAnswerRow {
  /** The entry's place in the log. */
  readonly index: number;
  readonly payment: string;
  readonly time: number;
  readonly payer: string;
  readonly payee: string;
  readonly amount: string;
  readonly memo: unknown;
  readonly balance: string;
}
