/** Names, limits and message types that the payment server and its clients share. */

/** ALPN protocol name (RFC 7301) of version 2. */
export const ALPN = "sealwire/2";
export const PROTOCOL_VERSION = 2;
/** Rows of a page of a list. */
export const PAGE_ROWS_MAX = 100;
/** Rows of a page of a history. The last entry of a page may be a batch. */
export const HISTORY_ROWS_MAX = 1_100;
/** The longest request with a batch's items. */
export const BATCH_LINE_BYTES_MAX = 512 * 1024;
/** The lowest port that a listener may publish. */
export const P2P_PORT_MIN = 1024;

/** The address where an online account takes offers. */
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
  /** The signed note of that size. Left out when this connection has received it before. */
  readonly checkpoint?: string;
}

export interface LoginAnswer {
  readonly account: string;
  readonly balance: string;
  readonly size: number;
  readonly checkpoint?: string;
  /**
   * From the checkpoint that the client showed to this one, base64; null when the log did not grow
   * out of that.
   */
  readonly consistency: readonly string[] | null;
  /** Another listener of the account was online, and this one has taken its place. */
  readonly displacing?: true;
}

/** Also what `payment.settled` brings. */
export interface SettledAnswer extends ProofAnswer {
  readonly state: "settled";
  /** Left out in the answer to the client that sent them, and for unsigned payments. */
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
  /** Pass as `after`, or as `before` where that was asked, for the next page; null at the end. */
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
  /** The payee's request that it pays. */
  readonly request?: string;
  /** The payment that it gives back, whose payer is this row's payee. */
  readonly refund_of?: string;
  readonly balance: string;
}
