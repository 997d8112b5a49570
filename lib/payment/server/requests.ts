/** Payment requests: a payee asks, and the payer accepts by an order, declines, or lets it expire. */
import { SealwireError } from "../../base/errors.ts";
import type { Members } from "../../base/parse.ts";
import { parseAccountName } from "../../keys/rsa.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import {
  type PaymentRequest,
  REQUEST_LIFE_S_MAX,
  type Submission,
} from "../../ledger/submission.ts";
import { formatAmount, parseWireAmount } from "../../protocol/money.ts";
import { MEMO_BYTES_MAX, parseSealedMemo } from "../../protocol/sealing.ts";
import { PAGE_ROWS_MAX, type RequestAnswer } from "../../protocol/wire.ts";
import type { Presence } from "./presence.ts";
import { refusal } from "./refusals.ts";
import type { LoggedIn } from "./session.ts";

const REQUEST_LIFE_S_MIN = 60;

export class Requests {
  constructor(
    private readonly ledger: Ledger,
    private readonly presence: Presence<LoggedIn>,
  ) {}

  /** The asker asks for money. The same id with the same content answers the same. */
  async create(asker: LoggedIn, params: Members): Promise<RequestAnswer> {
    const payer = params.raw("payer") === null ? null : parseAccountName(params.raw("payer"));
    const request = {
      id: params.uuid("id"),
      payee: asker.account,
      payer,
      amount: parseWireAmount(params.raw("amount")),
      memo: parseMemo(params, payer === null),
      life_s: params.integer("life", REQUEST_LIFE_S_MIN, REQUEST_LIFE_S_MAX),
    };
    return await this.submit(asker, { type: "request", request });
  }

  /** Its payer declines a request; its payee withdraws it. */
  async close(asker: LoggedIn, params: Members): Promise<RequestAnswer> {
    const payee = parseAccountName(params.raw("payee"));
    const id = params.uuid("id");
    return await this.submit(asker, { type: "close-request", by: asker.account, payee, id });
  }

  /** The pending requests of which the asker is payee or payer, and then the newest of the others. */
  async list({ account }: LoggedIn): Promise<{ requests: RequestAnswer[] }> {
    const requests = await this.ledger.requestsOf(account, PAGE_ROWS_MAX);
    return { requests: requests.map(requestAnswer) };
  }

  /** A request that the asker may pay, or has made. Unknown and not-yours are answered alike. */
  async find({ account }: LoggedIn, params: Members): Promise<RequestAnswer> {
    const payee = parseAccountName(params.raw("payee"));
    const request = await this.ledger.request(payee, params.uuid("id"));
    const mayKnow = request !== null &&
      (request.payer === null || request.payer === account || payee === account);
    if (!mayKnow) throw refusal("request_unknown");
    return requestAnswer(request);
  }

  private async submit(asker: LoggedIn, submission: Submission): Promise<RequestAnswer> {
    const outcome = await this.ledger.submit(submission, asker.origin);
    if (outcome.state === "refused") throw refusal(outcome.reason);
    if (outcome.state !== "request") throw new TypeError(`a request ended as ${outcome.state}`);
    const answer = requestAnswer(outcome.request);
    for (const account of [outcome.request.payee, outcome.request.payer]) {
      if (account === null) continue;
      for (const hearer of this.presence.sessionsOf(account)) {
        if (hearer !== asker) hearer.notify("request.changed", answer);
      }
    }
    return answer;
  }
}

/** Canonical JSON of a memo that is sealed to payee and payer, or of a clear text where anyone may pay. */
function parseMemo(params: Members, clear: boolean): string | null {
  if (params.raw("memo") === null) return null;
  if (!clear) return JSON.stringify(parseSealedMemo(params.raw("memo")));
  const text = params.text("memo", MEMO_BYTES_MAX);
  if (new TextEncoder().encode(text).length > MEMO_BYTES_MAX) {
    throw new SealwireError("memo_too_long", `a memo has at most ${MEMO_BYTES_MAX} bytes`);
  }
  return JSON.stringify(text);
}

function requestAnswer(request: PaymentRequest): RequestAnswer {
  const { id, payee, payer, amount, memo, created_s, expires_s, state, index } = request;
  return {
    id,
    payee,
    payer,
    amount: formatAmount(amount),
    memo: memo === null ? null : JSON.parse(memo),
    created: created_s,
    expires: expires_s,
    state,
    ...(state === "paid" && { index }),
  };
}
