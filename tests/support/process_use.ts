/** What a process uses, as far as the system says: Linux does. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

export const CAN_LOOK_INTO_PROCESSES = process.platform === "linux";

/** Bytes of memory that the process holds (VmRSS). */
export function residentBytes(pid: number): number {
  return statusBytes(pid, "VmRSS");
}

/** The most bytes of memory that the process has held so far (VmHWM). */
export function peakBytes(pid: number): number {
  return statusBytes(pid, "VmHWM");
}

function statusBytes(pid: number, name: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)![1]) * 1024;
}

/** Files and sockets that the process has open. */
export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Sockets that the process has open. */
export function openSockets(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((file) => {
    try {
      return readlinkSync(join(folder, file)).startsWith("socket:");
    } catch {
      // It has been closed meanwhile.
      return false;
    }
  }).length;
}
