/** Finds an address of this machine that others can reach. */
import { networkInterfaces } from "node:os";

const WILDCARD: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);
const LINK_LOCAL = /^(169\.254\.|fe[89ab])/i;

/**
 * The address to tell others of a server that listens on `host`: that one, or for all addresses one
 * of a network that this machine is in, of IPv4 where there is one. Loopback where there is none.
 */
export function reachableHost(host: string): string {
  if (!WILDCARD.has(host)) return host;
  const found = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !LINK_LOCAL.test(address));
  const isIpv4 = ({ family }: { family: string }) => family === "IPv4";
  return (found.find(isIpv4) ?? found[0])?.address ?? "127.0.0.1";
}
