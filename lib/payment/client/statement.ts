/** A month of an account: what it had, what moved, and with whom. All amounts are minor units. */
import { parseOpeningBalance } from "../../protocol/money.ts";
import type { BookRow } from "./books.ts";

export interface Movement {
  readonly row: BookRow;
  readonly other: string;
  /** Above zero for money that came in. */
  readonly change: bigint;
  readonly balance: bigint;
}

export interface PersonTotal {
  readonly name: string;
  readonly paidIn: bigint;
  readonly paidOut: bigint;
}

export interface Statement {
  readonly account: string;
  /** `2026-11`, of UTC. */
  readonly month: string;
  readonly unit: string;
  /** Seconds since 1970: the first second of the month, and of the next one. */
  readonly from_s: number;
  readonly to_s: number;
  readonly opening: bigint;
  readonly closing: bigint;
  readonly paidIn: bigint;
  readonly paidOut: bigint;
  readonly movements: readonly Movement[];
  /** By name. */
  readonly people: readonly PersonTotal[];
}

/** The first second of a month and of the next one; null for what is no month. */
export function monthBounds(month: string): { from_s: number; to_s: number } | null {
  const [, year, number] = /^(20\d\d)-(0[1-9]|1[0-2])$/.exec(month) ?? [];
  if (year === undefined) return null;
  const start = (months: number) => Date.UTC(Number(year), Number(number) - 1 + months, 1) / 1000;
  return { from_s: start(0), to_s: start(1) };
}

/** `rows`: the account's whole history, oldest first. */
export function makeStatement(
  account: string,
  unit: string,
  month: string,
  { from_s, to_s }: { from_s: number; to_s: number },
  rows: readonly BookRow[],
): Statement {
  const before = rows.findLast(({ time }) => time < from_s);
  const opening = before === undefined ? 0n : parseOpeningBalance(before.balance);
  const movements = rows.filter(({ time }) => time >= from_s && time < to_s).map((row) => {
    const isIncome = row.payee === account;
    const amount = parseOpeningBalance(row.amount);
    return {
      row,
      other: isIncome ? row.payer : row.payee,
      change: isIncome ? amount : -amount,
      balance: parseOpeningBalance(row.balance),
    };
  });
  const people = new Map<string, PersonTotal>();
  for (const { other: name, change } of movements) {
    const { paidIn, paidOut } = people.get(name) ?? { paidIn: 0n, paidOut: 0n };
    people.set(name, { name, ...addTo({ paidIn, paidOut }, change) });
  }
  let total = { paidIn: 0n, paidOut: 0n };
  for (const { change } of movements) total = addTo(total, change);
  return {
    account,
    month,
    unit,
    from_s,
    to_s,
    opening,
    closing: movements.at(-1)?.balance ?? opening,
    ...total,
    movements,
    people: [...people.values()].sort((one, other) => one.name < other.name ? -1 : 1),
  };
}

function addTo(
  { paidIn, paidOut }: { paidIn: bigint; paidOut: bigint },
  change: bigint,
): { paidIn: bigint; paidOut: bigint } {
  return change > 0n ? { paidIn: paidIn + change, paidOut } : { paidIn, paidOut: paidOut - change };
}
