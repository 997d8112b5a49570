/**
 * The server's log: one line an event on standard error, for people (`text`) or for programs
 * (`json`). Never a secret.
 */
import process from "node:process";
import { printable } from "../../base/text.ts";

export type Log = (event: string, fields: Readonly<Record<string, unknown>>) => void;

export function makeLog(format: "text" | "json"): Log {
  return (event, fields) => {
    const time = new Date().toISOString();
    const text = Object.entries(fields).map(([name, value]) =>
      ` ${name}=${printable(String(value))}`
    ).join("");
    const line = format === "json"
      ? JSON.stringify({ time, event, ...fields })
      : `${time} ${event}${text}`;
    process.stderr.write(line + "\n");
  };
}
