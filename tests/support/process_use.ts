/** What a process uses, as far as the system says: Linux does. */
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";

export const CAN_LOOK_INTO_PROCESSES = process.platform === "linux";

/** Bytes of memory that the process holds (VmRSS). */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

/** Files and sockets that the process has open. */
export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
