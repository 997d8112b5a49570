/**
 * The addresses of a server on the command line. `<host>` may be a list, as `pay1.example,pay2.example:8081,[::1]`: several
 * servers on one ledger, of which the client uses the next when one does not answer. `<port>` is that of all that name none.
 */
import { parsePort, usageError } from "../../cli/arguments.ts";

const ADDRESSES_MAX = 16;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** @throws {SealwireError} `usage`. */
export function parseAddresses(hosts: string, port: string): [Address, ...Address[]] {
  const common = parsePort("<port>", port, 1);
  const [first, ...others] = hosts.split(",").map((text) => parseAddress(hosts, text, common));
  if (others.length >= ADDRESSES_MAX) {
    throw usageError(`<host> takes at most ${ADDRESSES_MAX} addresses, not ${others.length + 1}`);
  }
  return [first!, ...others];
}

function parseAddress(hosts: string, text: string, common: number): Address {
  const [, bracketed, plain, port] = /^(?:\[([^[\]]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? text.replace(/^\[([^[\]]+)\]$/, "$1");
  // One colon alone makes no IPv6 address.
  if (host === "" || /[[\]\s]|^[^:]*:[^:]*$/.test(host)) {
    throw usageError(
      `<host> takes host or host:port, or several with commas between, not "${hosts}"`,
    );
  }
  return { host, port: port === undefined ? common : parsePort("<host>", port, 1) };
}
