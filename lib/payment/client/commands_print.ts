/** Lines that several commands print. */
import { printable } from "../../base/text.ts";
import type { Output } from "../../cli/output.ts";
import type { AccountName } from "../../keys/rsa.ts";
import type { RequestAnswer } from "../../protocol/wire.ts";
import { formatTime } from "./times.ts";

export function printRequest(
  out: Output,
  account: AccountName,
  request: RequestAnswer,
  memo: string | null,
  more: { readonly event?: string; readonly link?: string },
): void {
  const { id, payee, payer, amount, created, expires, index } = request;
  const isOver = request.state === "pending" && expires * 1000 <= Date.now();
  const state = isOver ? "expired" : request.state;
  const { link, ...first } = more;
  const result = {
    ...first,
    request: id,
    state,
    payee,
    payer,
    amount,
    memo,
    created: formatTime(created),
    expires: formatTime(expires),
    ...(index !== undefined && { index }),
    ...(link !== undefined && { link }),
  };
  const who = payee === account
    ? `you ask ${payer ?? "anyone"} for`
    : `${payee} asks ${payer === account ? "you" : "anyone"} for`;
  const until = state === "pending" ? `until ${formatTime(expires)}` : state;
  const text = `${who} ${amount}${quoted(memo)}; ${until} (request ${id})`;
  out.result(result, link === undefined ? text : `${text}\n${link}`);
}

/** A memo, as the end of a sentence. */
export function quoted(memo: string | null): string {
  return memo === null ? "" : ` "${printable(memo)}"`;
}
