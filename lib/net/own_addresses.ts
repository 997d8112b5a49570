/** The addresses of this machine, and the one of them that others can reach. */
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { addressKind, parseIp, withoutZone } from "./address.ts";

const WILDCARD: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** All addresses of this machine's networks, loopback too. */
export function ownAddresses(): NetworkInterfaceInfo[] {
  return Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
}

/**
 * The address to tell others of a server that listens on `host`: that one, or for all addresses one
 * of a network that this machine is in, of IPv4 where there is one. Loopback where there is none.
 */
export function reachableHost(host: string): string {
  if (!WILDCARD.has(host)) return host;
  const found = ownAddresses().filter(({ internal, address }) =>
    !internal && !isLinkLocal(address)
  );
  const isIpv4 = ({ family }: { family: string }) => family === "IPv4";
  return (found.find(isIpv4) ?? found[0])?.address ?? "127.0.0.1";
}

function isLinkLocal(address: string): boolean {
  const bytes = parseIp(withoutZone(address));
  return bytes !== null && addressKind(bytes) === "link_local";
}
