/** Giving money back: to who paid it, and to the server's operator. */
import { SealwireError } from "../../base/errors.ts";
import type { Uuid } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { type Amount, formatAmount, parseWireAmount } from "../../protocol/money.ts";
import type { PaymentReference } from "../../protocol/order.ts";
import { TREASURY } from "../../protocol/party.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import { printPayment } from "./commands.ts";
import { type CommandContext, withClient } from "./commands_context.ts";
import type { PaymentClient } from "./payer.ts";

/** `amount` null: all that is left of the payment. */
export async function refund(
  context: CommandContext,
  account: AccountName,
  start: string,
  amount: Amount | null,
): Promise<void> {
  await withClient(context, account, async (client) => {
    const { row, left } = await findPaid(client, account, start);
    if (row.payer === TREASURY) {
      throw new SealwireError(
        "refund_unknown",
        "this money is from the server's operator: give it back with redeem",
      );
    }
    if (row.refund_of !== undefined) {
      throw new SealwireError("refund_of_refund", "a refund cannot be given back: pay instead");
    }
    if (left <= 0n) {
      throw new SealwireError("refund_too_much", "all of this payment has been given back");
    }
    if (amount !== null && amount > left) {
      throw new SealwireError(
        "refund_too_much",
        `of this payment ${formatAmount(left)} can still be given back`,
      );
    }
    const payment = await client.pay({
      payee: parseAccountName(row.payer),
      amount: amount ?? left as Amount,
      memo: null,
      way: "either",
      id: null,
      refundOf: referenceTo(row),
    });
    printPayment(context.out, payment);
  });
}

/** The one payment to `account` whose id begins with `start`, and what of it has not been given back. */
async function findPaid(
  client: PaymentClient,
  account: AccountName,
  start: string,
): Promise<{ row: HistoryAnswerRow; left: bigint }> {
  const wanted = start.toLowerCase();
  const found: HistoryAnswerRow[] = [];
  const refunded = new Map<string, bigint>();
  for await (const row of client.session.history(0)) {
    const isMine = row.payee === account;
    if (isMine && row.payment.startsWith(wanted)) found.push(row);
    if (isMine || row.refund_of === undefined) continue;
    const key = `${row.payee} ${row.refund_of}`;
    refunded.set(key, (refunded.get(key) ?? 0n) + parseWireAmount(row.amount));
  }
  const exact = found.findLast(({ payment }) => payment === wanted);
  const [row, ...others] = exact === undefined ? found : [exact];
  if (row === undefined) {
    throw new SealwireError("refund_unknown", "no payment to this account has that id");
  }
  if (others.length > 0) {
    const ids = found.slice(0, 3).map(({ payment }) => payment).join(", ");
    throw usageError(`several payments to ${account} begin with "${start}": ${ids}`);
  }
  const given = refunded.get(`${row.payer} ${row.payment}`) ?? 0n;
  return { row, left: parseWireAmount(row.amount) - given };
}

function referenceTo({ payer, payment }: HistoryAnswerRow): PaymentReference {
  const [id, item] = payment.split("/");
  return {
    payer: parseAccountName(payer),
    id: id as Uuid,
    item: item === undefined ? null : Number(item),
  };
}

/** Gives money back to the treasury, which it came from. */
export async function redeem(
  context: CommandContext,
  account: AccountName,
  amount: Amount,
): Promise<void> {
  await withClient(context, account, async (client) => {
    const order = { payee: TREASURY, amount, memo: null, id: null } as const;
    printPayment(context.out, await client.pay({ ...order, way: "via-server" }));
  });
}
