import assert from "node:assert/strict";
import { test } from "node:test";
import { mayConnectTo } from "../../../lib/payment/client/answers.ts";

const LOCAL = [
  "127.0.0.1",
  "127.9.9.9",
  "0.0.0.0",
  "169.254.169.254",
  "::1",
  "::",
  "fe80::1",
  "::ffff:127.0.0.1",
];
const ELSEWHERE = ["192.0.2.1", "10.0.0.1", "12.7.0.1", "2001:db8::1", "1::1", "::ffff:192.0.2.1"];

test("a client of a server elsewhere is not sent to its own machine", () => {
  for (const serverHost of ["192.0.2.7", "10.0.0.7", "2001:db8::7"]) {
    for (const host of LOCAL) assert.equal(mayConnectTo(host, serverHost), false, host);
    for (const host of ELSEWHERE) assert.equal(mayConnectTo(host, serverHost), true, host);
  }
});

test("beside a server on this machine a payee may be on it too", () => {
  for (const host of [...LOCAL, ...ELSEWHERE]) assert.equal(mayConnectTo(host, "127.0.0.1"), true);
});
