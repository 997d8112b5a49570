/**
 * A statement as one HTML file that needs nothing else: no script, no font, no picture, nothing from the network. It follows
 * the reader's colour scheme, fits a telephone, and prints in black on white.
 */
import { printable } from "../../base/text.ts";
import { formatAmount } from "../../protocol/money.ts";
import type { Movement, Statement } from "./statement.ts";

const CHART_WIDTH = 640;
const CHART_HEIGHT = 160;
const CHART_MARGIN = 8;

const STYLE = `
:root { color-scheme: light dark; --line: #8886; --ink: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --ink: #99c1f1; } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 1rem; }
dd { margin: 0; }
dd, td.sum, th.sum { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td small { display: block; overflow-wrap: anywhere; opacity: .75; }
svg { width: 100%; height: auto; border: 1px solid var(--line); }
svg path { fill: none; stroke: var(--ink); stroke-width: 2; vector-effect: non-scaling-stroke; }
@media (max-width: 30rem) { .time { display: none; } body { padding: .6rem; } }
@media print {
  :root { color-scheme: light; --ink: #000; }
  body { max-width: none; font-size: 10pt; }
  tr, svg { break-inside: avoid; }
  thead { display: table-header-group; }
}`;

export function statementHtml(statement: Statement): string {
  const { account, month, unit, opening, closing, paidIn, paidOut, people } = statement;
  const title = `Statement of ${account}, ${month}`;
  const sums = [
    ["Opening balance", opening],
    ["Paid in", paidIn],
    ["Paid out", -paidOut],
    ["Closing balance", closing],
  ] as const;
  const rows = people.map(({ name, paidIn, paidOut }) =>
    `<tr><td>${escape(name)}</td>${sumCell(paidIn)}${sumCell(-paidOut)}</tr>`
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escape(title)}</title>
<style>${STYLE}
</style>
</head>
<body>
<h1>${escape(title)}</h1>
<p>All amounts in ${escape(unit)}, all times in UTC.</p>
<dl>
${sums.map(([name, sum]) => `<dt>${name}</dt><dd>${formatAmount(sum)}</dd>`).join("\n")}
</dl>
${chart(statement)}
<h2>By person</h2>
<table>
<thead><tr><th>Name</th><th class="sum">Paid in</th><th class="sum">Paid out</th></tr></thead>
<tbody>
${rows.join("\n")}
</tbody>
</table>
<h2>Movements</h2>
<table>
<thead><tr><th>Day</th><th>With</th><th class="sum">Amount</th><th class="sum">Balance</th></tr></thead>
<tbody>
${statement.movements.map(movementRow).join("\n")}
</tbody>
</table>
</body>
</html>
`;
}

function movementRow({ row, other, change, balance }: Movement): string {
  const time = new Date(row.time * 1000).toISOString();
  const notes = [
    row.memo ?? "",
    row.refund_of === undefined ? "" : `gives back ${row.refund_of}`,
    row.payment,
  ].filter((note) => note !== "").map((note) => `<small>${escape(note)}</small>`);
  return `<tr><td>${time.slice(0, 10)} <span class="time">${time.slice(11, 16)}</span></td>` +
    `<td>${escape(other)}${notes.join("")}</td>${sumCell(change)}${sumCell(balance)}</tr>`;
}

function sumCell(sum: bigint): string {
  return `<td class="sum">${formatAmount(sum)}</td>`;
}

/** The balance over the month, in steps. */
function chart({ from_s, to_s, opening, closing, movements }: Statement): string {
  const balances = [opening, ...movements.map(({ balance }) => balance)].map(Number);
  const top = Math.max(...balances, 1);
  const x = (time_s: number) => round((time_s - from_s) / (to_s - from_s) * CHART_WIDTH);
  const y = (balance: number) =>
    round(CHART_HEIGHT - CHART_MARGIN - balance / top * (CHART_HEIGHT - 2 * CHART_MARGIN));
  const steps = movements.map(({ row, balance }) => `H${x(row.time)}V${y(Number(balance))}`);
  const path = `M0 ${y(Number(opening))}${steps.join("")}H${CHART_WIDTH}`;
  const label = `The balance from ${formatAmount(opening)} to ${formatAmount(closing)}, ` +
    `at most ${formatAmount(BigInt(top))}`;
  return `<svg viewBox="0 0 ${CHART_WIDTH} ${CHART_HEIGHT}" role="img" aria-label="${label}">` +
    `<title>${label}</title><path d="${path}"/></svg>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};

function escape(text: string): string {
  return printable(text).replace(/[&<>"]/g, (character) => ESCAPES[character]!);
}
