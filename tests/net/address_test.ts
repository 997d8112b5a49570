/** The filter for published addresses. No test here connects to anything. */
import assert from "node:assert/strict";
import { isIP } from "node:net";
import { describe, test } from "node:test";
import fc from "fast-check";
import { addressGroup, addressKind, mayConnectTo, parseIp } from "../../lib/net/address.ts";

const RUNS = { numRuns: 300 };

/** One address of each kind in many spellings. */
const LOOPBACK = [
  "127.0.0.1",
  "127.9.9.9",
  "::1",
  "0:0:0:0:0:0:0:1",
  "::0:1",
  "0000:0000::0001",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "0:0:0:0:0:FFFF:7F00:0001",
  "::127.0.0.1",
  "::7f00:1",
  "64:ff9b::7f00:1",
  "64:ff9b::127.0.0.1",
  "2002:7f00:1::",
];
const UNSPECIFIED = ["0.0.0.0", "0.1.2.3", "::", "0::0", "::ffff:0.0.0.0", "::ffff:0:0"];
const LINK_LOCAL = [
  "169.254.169.254",
  "fe80::1",
  "febf::1",
  "::ffff:a9fe:a9fe",
  "2002:a9fe:a9fe::",
];
const MULTICAST = ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::ffff:e000:1"];
const PRIVATE = [
  "10.0.0.1",
  "100.64.0.1",
  "172.16.0.1",
  "172.31.255.255",
  "192.168.1.1",
  "fc00::1",
  "fdff::1",
  "fec0::1",
  "::ffff:c0a8:101",
];
const PUBLIC = [
  "192.0.2.1",
  "12.7.0.1",
  "126.255.255.255",
  "128.0.0.1",
  "172.32.0.1",
  "100.128.0.1",
  "2001:db8::1",
  "1::1",
  "::ffff:192.0.2.1",
  "64:ff9b::c000:201",
];
/** What connects somewhere on some systems, but is no address. */
const NO_ADDRESS = [
  "",
  "localhost",
  "127.1",
  "127.0.0.01",
  "0x7f.0.0.1",
  "2130706433",
  "127.0.0.1.",
  " 127.0.0.1",
  "256.0.0.1",
  "fe80::1%eth0",
  "::1%lo",
  "[::1]",
  ":::1",
  "1::2::3",
  "::12345",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4:5:6:7::8:9",
  "127.0.0.1::",
  "::127.0.0.1:1",
  "::ffff:127.0.0.1/8",
];
const LOCAL = [...LOOPBACK, ...UNSPECIFIED, ...LINK_LOCAL, ...MULTICAST];

describe("a published address", () => {
  test("of a client's own machine, link or of many machines is never dialled from afar", () => {
    for (const serverHost of ["192.0.2.7", "10.0.0.7", "2001:db8::7"]) {
      for (const ownHost of ["198.51.100.1", "10.0.0.8", "2001:db8::8"]) {
        for (const host of LOCAL) {
          assert.equal(mayConnectTo(host, { serverHost, ownHost }), false, host);
        }
      }
    }
  });

  test("of the server's own kind is dialled, and of another such kind is not", () => {
    const beside = { serverHost: "127.0.0.1", ownHost: "127.0.0.1" };
    for (const host of LOOPBACK) assert.equal(mayConnectTo(host, beside), true, host);
    for (const host of [...UNSPECIFIED, ...LINK_LOCAL, ...MULTICAST]) {
      assert.equal(mayConnectTo(host, beside), false, host);
    }
    const onLink = { serverHost: "fe80::9", ownHost: "fe80::8" };
    for (const host of LINK_LOCAL) assert.equal(mayConnectTo(host, onLink), true, host);
    for (const host of LOOPBACK) assert.equal(mayConnectTo(host, onLink), false, host);
  });

  test("of a private network is dialled only from a private network", () => {
    const serverHost = "192.0.2.7";
    for (const host of PRIVATE) {
      assert.equal(mayConnectTo(host, { serverHost, ownHost: "192.168.7.7" }), true, host);
      assert.equal(mayConnectTo(host, { serverHost, ownHost: "198.51.100.1" }), false, host);
      assert.equal(mayConnectTo(host, { serverHost, ownHost: "" }), false, host);
    }
  });

  test("that is public is dialled, and what is no address is not", () => {
    const vantage = { serverHost: "127.0.0.1", ownHost: "127.0.0.1" };
    for (const host of PUBLIC) assert.equal(mayConnectTo(host, vantage), true, host);
    for (const host of NO_ADDRESS) assert.equal(mayConnectTo(host, vantage), false, host);
  });
});

describe("parsing", () => {
  test("takes what the runtime takes, without zones", () => {
    for (const text of [...LOCAL, ...PRIVATE, ...PUBLIC]) assert.ok(parseIp(text), text);
    for (const text of NO_ADDRESS) assert.equal(parseIp(text), null, text);
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: "binary-ascii" })), (text) => {
        const isAddress = isIP(text) !== 0 && !text.includes("%");
        assert.equal(parseIp(text) !== null, isAddress, text);
      }),
      RUNS,
    );
  });

  test("gives the same bytes for every spelling", () => {
    const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(groups, fc.nat(8), fc.nat(8), (values, from, to) => {
        const [start, end] = [Math.min(from, to), Math.max(from, to)];
        const zeroed = values.map((value, at) => at >= start && at < end ? 0 : value);
        const long = zeroed.map((value) => value.toString(16).padStart(4, "0")).join(":");
        const bytes = parseIp(long);
        assert.deepEqual(parseIp(zeroed.map((value) => value.toString(16)).join(":")), bytes);
        assert.deepEqual(parseIp(long.toUpperCase()), bytes);
        if (end === start) return;
        const side = (part: number[]) => part.map((value) => value.toString(16)).join(":");
        const short = `${side(zeroed.slice(0, start))}::${side(zeroed.slice(end))}`;
        assert.deepEqual(parseIp(short), bytes, short);
        assert.equal(addressKind(bytes!), addressKind(parseIp(short)!));
      }),
      RUNS,
    );
  });
});

test("an IPv6 network of 64 bits counts as one address, an IPv4 address as one", () => {
  assert.equal(addressGroup("2001:db8:1:2::1"), addressGroup("2001:db8:1:2:ffff::9"));
  assert.notEqual(addressGroup("2001:db8:1:2::1"), addressGroup("2001:db8:1:3::1"));
  assert.equal(addressGroup("::ffff:192.0.2.1"), addressGroup("192.0.2.1"));
  assert.notEqual(addressGroup("192.0.2.1"), addressGroup("192.0.2.2"));
  assert.equal(addressGroup("fe80::1%eth0"), addressGroup("fe80::2"));
});
