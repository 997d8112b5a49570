/**
 * Reads IP addresses as bytes, and says what kind of address each one is. Two texts for one address
 * (`::1` and `0:0:0:0:0:0:0:1`) give the same bytes, so no spelling gets past a rule.
 */

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;
const IPV6_GROUPS = 8;
/** The first 64 bits of an IPv6 address name a network. One holder has all addresses in it. */
const IPV6_NETWORK_BYTES = 8;

/**
 * What an address is, as far as a connection to it matters:
 *
 * - `unspecified`: no machine in particular. Systems connect to the machine itself.
 * - `loopback`: this machine.
 * - `link_local`: machines on the same link, among them the metadata services of clouds.
 * - `multicast`: many machines. Broadcast counts as multicast.
 * - `private`: machines of a private network.
 * - `public`: all others.
 */
export type AddressKind =
  | "unspecified"
  | "loopback"
  | "link_local"
  | "multicast"
  | "private"
  | "public";

/** Address blocks: the kind, the first bytes, and how many of their bits count. First match wins. */
type Block = readonly [kind: AddressKind, prefix: readonly number[], bits: number];

/** https://www.iana.org/assignments/iana-ipv4-special-registry */
const IPV4_BLOCKS: readonly Block[] = [
  ["unspecified", [0], 8],
  ["loopback", [127], 8],
  ["link_local", [169, 254], 16],
  ["multicast", [255, 255, 255, 255], 32],
  ["multicast", [224], 4],
  ["private", [10], 8],
  ["private", [100, 64], 10],
  ["private", [172, 16], 12],
  ["private", [192, 168], 16],
];

/** https://www.iana.org/assignments/iana-ipv6-special-registry */
const IPV6_BLOCKS: readonly Block[] = [
  ["unspecified", new Array(IPV6_BYTES).fill(0), 128],
  ["loopback", [...new Array(IPV6_BYTES - 1).fill(0), 1], 128],
  ["link_local", [0xfe, 0x80], 10],
  ["private", [0xfe, 0xc0], 10],
  ["private", [0xfc], 7],
  ["multicast", [0xff], 8],
];

/** IPv4-mapped addresses (RFC 4291, 2.5.5.2): the IPv4 address is in the last four bytes. */
const IPV4_MAPPED: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const IPV4_MAPPED_BITS = 96;

/** IPv6 blocks that carry an IPv4 address, and where in the address it is. */
const IPV4_INSIDE: readonly (readonly [prefix: readonly number[], bits: number, at: number])[] = [
  [IPV4_MAPPED, IPV4_MAPPED_BITS, 12],
  // IPv4-translated (RFC 2765) and IPv4-compatible (RFC 4291, 2.5.5.1).
  [[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], 96, 12],
  [new Array(12).fill(0), 96, 12],
  // NAT64 (RFC 6052, 2.1) and 6to4 (RFC 3056, 2).
  [[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0], 96, 12],
  [[0x20, 0x02], 16, 2],
];

/**
 * Parses an IP literal: 4 bytes for IPv4, 16 for IPv6. Returns null for any other text, also for one
 * with a zone (`fe80::1%eth0`).
 */
export function parseIp(text: string): Uint8Array | null {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split(".");
  const valid = parts.length === IPV4_BYTES &&
    parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
  return valid ? Uint8Array.from(parts, Number) : null;
}

/** RFC 4291, 2.2. */
function parseIpv6(text: string): Uint8Array | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = halves.map((half, at) => parseGroups(half, at === halves.length - 1));
  if (head === null || tail === null || head === undefined) return null;
  if (tail === undefined) {
    return head.length === IPV6_BYTES ? Uint8Array.from(head) : null;
  }
  const gap = IPV6_BYTES - head.length - tail.length;
  if (gap < IPV6_BYTES / IPV6_GROUPS) return null;
  return Uint8Array.from([...head, ...new Array(gap).fill(0), ...tail]);
}

/** The bytes of groups between colons. `isLast`: an IPv4 address may be at the end. */
function parseGroups(text: string, isLast: boolean): number[] | null {
  if (text === "") return [];
  const groups = text.split(":");
  const bytes: number[] = [];
  for (const [at, group] of groups.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(group)) {
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
      continue;
    }
    const ipv4 = isLast && at === groups.length - 1 ? parseIpv4(group) : null;
    if (ipv4 === null) return null;
    bytes.push(...ipv4);
  }
  return bytes.length <= IPV6_BYTES ? bytes : null;
}

/** The kind of an address of 4 or 16 bytes. An IPv4 address inside an IPv6 one decides. */
export function addressKind(bytes: Uint8Array): AddressKind {
  if (bytes.length === IPV4_BYTES) return kindIn(IPV4_BLOCKS, bytes) ?? "public";
  const own = kindIn(IPV6_BLOCKS, bytes);
  if (own !== null) return own;
  const ipv4 = ipv4Inside(bytes);
  return ipv4 === null ? "public" : addressKind(ipv4);
}

function kindIn(blocks: readonly Block[], bytes: Uint8Array): AddressKind | null {
  return blocks.find(([, prefix, bits]) => startsWith(bytes, prefix, bits))?.[0] ?? null;
}

function ipv4Inside(bytes: Uint8Array): Uint8Array | null {
  const inside = IPV4_INSIDE.find(([prefix, bits]) => startsWith(bytes, prefix, bits));
  return inside === undefined ? null : bytes.subarray(inside[2], inside[2] + IPV4_BYTES);
}

function startsWith(bytes: Uint8Array, prefix: readonly number[], bits: number): boolean {
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (bytes[at] !== prefix[at]) return false;
  const rest = bits & 7;
  return rest === 0 || (bytes[whole]! ^ prefix[whole]!) >> (8 - rest) === 0;
}

/**
 * The key under which an address is counted. All of an IPv6 /64 is one, because one holder has all
 * of it. An IPv4-mapped address counts as its IPv4 address. Text that is no address is its own key.
 */
export function addressGroup(host: string): string {
  const bytes = parseIp(withoutZone(host));
  if (bytes === null) return host;
  if (bytes.length === IPV4_BYTES) return bytes.join(".");
  if (startsWith(bytes, IPV4_MAPPED, IPV4_MAPPED_BITS)) return bytes.subarray(12).join(".");
  const network = [...bytes.subarray(0, IPV6_NETWORK_BYTES)];
  return network.map((byte) => byte.toString(16).padStart(2, "0")).join("") + "/64";
}

/** An address without its zone: `fe80::1` for `fe80::1%eth0`. */
export function withoutZone(host: string): string {
  const zone = host.indexOf("%");
  return zone < 0 ? host : host.slice(0, zone);
}

/** Where a client and its server are, as the client's own connection shows it. IP literals. */
export interface Vantage {
  readonly serverHost: string;
  readonly ownHost: string;
}

/**
 * Whether a client may connect to an address that others published. Nobody far away may send a
 * client to services of its own machine or network:
 *
 * - loopback, link-local, multicast and unspecified addresses only where the server itself is at an
 *   address of the same kind;
 * - private addresses only where the client reaches the server from a private or a loopback
 *   address.
 */
export function mayConnectTo(host: string, { serverHost, ownHost }: Vantage): boolean {
  const kind = kindOf(host);
  switch (kind) {
    case null:
      return false;
    case "public":
      return true;
    case "private":
      return ["private", "loopback"].includes(kindOf(ownHost) ?? "");
    default:
      return kindOf(serverHost) === kind;
  }
}

function kindOf(host: string): AddressKind | null {
  const bytes = parseIp(host);
  return bytes === null ? null : addressKind(bytes);
}
