import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Uuid } from "../../../lib/base/parse.ts";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { openSession } from "../../support/payment_clients.ts";
import { assertFails, type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { runTool } from "../../support/support.ts";
import { uuid } from "../../support/fixtures.ts";

let world: PaymentWorld;

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob", "carol");
});

after(() => world.stop());

async function ask(payee: string, ...args: string[]): Promise<Json> {
  return await world.ask(payee, "request", ...args);
}

async function balanceOf(name: string): Promise<unknown> {
  return (await world.ask(name, "balance")).balance;
}

test("a request is shown to both, paid by the start of its id, and its payment names it", async () => {
  const asked = await ask("bob", "alice", "12.50", "lunch", "for", "two", "--expires", "2d");
  const { request, created, expires } = asked;
  assert.deepEqual(asked, {
    request,
    state: "pending",
    payee: "bob",
    payer: "alice",
    amount: "12.50",
    memo: "lunch for two",
    created,
    expires,
  });
  assert.equal(Date.parse(String(expires)) - Date.parse(String(created)), 2 * 86_400_000);
  for (const name of ["alice", "bob"]) {
    assert.deepEqual(jsonLines(await world.client(name, "requests")).at(-1), asked);
  }
  assert.deepEqual(jsonLines(await world.client("carol", "requests")), []);
  const paid = await world.ask("alice", "accept", String(request).slice(0, 13));
  assert.deepEqual([paid.payee, paid.amount], ["bob", "12.50"]);
  const [, row] = jsonLines(await world.client("bob", "history"));
  assert.deepEqual([row!.payment, row!.memo, row!.request], [
    paid.payment,
    "lunch for two",
    request,
  ]);
  const state = jsonLines(await world.client("bob", "requests")).at(-1)!;
  assert.deepEqual([state.state, typeof state.index], ["paid", "number"]);
  assertFails(await world.client("alice", "accept", String(request)), "request_paid");
  assertFails(await world.client("alice", "decline", String(request)), "request_paid");
  assertFails(await world.client("bob", "withdraw", String(request)), "request_paid");
});

test("a listener hears of a request at once, and at its next start of those that wait", async () => {
  const isRequest = ({ event }: Json) => event === "request";
  let listener = await world.listen("carol");
  const { request } = await ask("bob", "carol", "1.00", "tea");
  const shown = await listener.nextJson(isRequest);
  assert.deepEqual([shown.request, shown.state, shown.memo], [request, "pending", "tea"]);
  await listener.stop();
  listener = await world.listen("carol");
  assert.equal((await listener.nextJson(isRequest)).request, request);
  await world.ask("bob", "withdraw", String(request));
  const withdrawn = await listener.nextJson(isRequest);
  assert.deepEqual([withdrawn.request, withdrawn.state], [request, "withdrawn"]);
  await listener.stop();
  assertFails(await world.client("carol", "accept", String(request)), "request_withdrawn");
  assertFails(await world.client("carol", "decline", String(request)), "request_withdrawn");
});

test("the payee hears that a request is declined", async () => {
  const listener = await world.listen("bob");
  const { request } = await ask("bob", "alice", "1.00");
  const { state } = await world.ask("alice", "decline", String(request));
  assert.equal(state, "declined");
  const shown = await listener.nextJson(({ event }) => event === "request");
  assert.deepEqual([shown.request, shown.state], [request, "declined"]);
  await listener.stop();
  assertFails(await world.client("alice", "accept", String(request)), "request_declined");
  assertFails(await world.client("bob", "withdraw", String(request)), "request_declined");
});

test("a link pays without host and port, and two who try get one payment", async () => {
  const asked = await ask("bob", "--anyone", "2.00", "for", "the", "club", "--link");
  const link = String(asked.link);
  assert.ok(link.length < 200 && link.startsWith(`sealwire://127.0.0.1:${world.port}/`), link);
  const [balance, atBob] = [await balanceOf("carol"), Number(await balanceOf("bob"))];
  const payAs = (name: string) => world.client(name, "pay", link);
  const [alice, carol] = await Promise.all([payAs("alice"), payAs("carol")]);
  const [paid, late] = alice.status === 0 ? [alice, carol] : [carol, alice];
  assert.equal(paid.status, 0, paid.stdout);
  assert.match(paid.stderr, /bob asks for 2.00 "for the club"/);
  assertFails(late, "request_paid");
  assert.equal(Number(await balanceOf("bob")), atBob + 2);
  if (paid === alice) assert.equal(await balanceOf("carol"), balance);
  assertFails(await payAs("bob"), "payer_is_payee");
});

test("`pay LINK` finds the server by itself", async () => {
  const { link } = await ask("bob", "alice", "3.00", "--link");
  const args = world.clientArgs("alice", "pay", String(link)).slice(2);
  const outcome = await runTool("client.ts", args);
  assert.equal(outcome.status, 0, outcome.stdout + outcome.stderr);
  assert.match(outcome.stderr, /whose key is [\w-]{43}/);
});

test("a link with an amount is paid any number of times", async () => {
  const link = String((await ask("bob", "alice", "1.00", "--link")).link)
    .replace(/[^/]+$/, "4.00");
  for (let count = 0; count < 2; count++) {
    assert.equal((await world.ask("alice", "pay", link)).amount, "4.00");
  }
});

test("a link that was tampered with, or is another's, pays nobody", async () => {
  const { link: text } = await ask("bob", "alice", "1.00", "--link");
  const link = String(text);
  const balance = await balanceOf("alice");
  const [server] = /[\w-]{43}/.exec(link)!;
  const refusals: readonly [string, string, string, number][] = [
    ["alice", link.replace(server, `${"A".repeat(42)}A`), "wrong_server", 1],
    ["alice", link.replace("/bob/", "/carol/"), "request_unknown", 1],
    ["alice", link.replace(/[^/]+$/, uuid()), "request_unknown", 1],
    ["carol", link, "request_unknown", 1],
    ["alice", link.slice(0, -1), "bad_link", 2],
    ["alice", `${link}/more`, "bad_link", 2],
    ["alice", link.replace(/[^/]+$/, "1e3"), "bad_link", 2],
    ["alice", link.replace(/[^/]+$/, "0.00"), "bad_link", 2],
    ["alice", "sealwire://", "bad_link", 2],
  ];
  for (const [name, tampered, code, exit] of refusals) {
    assertFails(await world.client(name, "pay", tampered), code, exit);
  }
  assert.equal(await balanceOf("alice"), balance);
});

test("a request lives a minute at least", async () => {
  const session = await openSession(world, "erin", { register: true });
  const { id } = await session.request({
    id: uuid(),
    payer: parseAccountName("alice"),
    amount: "1.00",
    memo: null,
    life: 60,
  });
  await assert.rejects(
    session.request({ id: uuid(), payer: null, amount: "1.00", memo: null, life: 59 }),
    { code: "invalid_params" },
  );
  await session.closeRequest(parseAccountName("erin"), id as Uuid);
  await session.end();
});

test("more requests than allowed are refused, and strangers learn nothing of one", async () => {
  const session = await openSession(world, "frank", { register: true });
  const payer = parseAccountName("carol");
  const make = () => session.request({ id: uuid(), payer, amount: "1.00", memo: null, life: 600 });
  const made = await Promise.all(Array.from({ length: 20 }, make));
  await assert.rejects(make(), { code: "request_limit" });
  const other = await openSession(world, "erin");
  const frank = parseAccountName("frank");
  for (const id of [made[0]!.id as Uuid, uuid()]) {
    await assert.rejects(other.findRequest(frank, id), {
      code: "request_unknown",
      message: "there is no such request for this account",
    });
    await assert.rejects(other.closeRequest(frank, id), { code: "request_unknown" });
  }
  await other.end();
  for (const { id } of made) await session.closeRequest(frank, id as Uuid);
  await session.end();
});

test("a request that is refused says why", async () => {
  const refusals: readonly [readonly string[], string, number][] = [
    [["nobody", "1.00"], "unknown_account", 1],
    [["nobody", "1.00", "memo"], "unknown_account", 1],
    [["bob", "1.00"], "payer_is_payee", 1],
    [["Alice", "1.00"], "bad_name", 2],
    [["alice", "12,50"], "bad_amount", 2],
    [["alice", "-5"], "bad_amount", 2],
    [["alice", "0"], "bad_amount", 2],
    [["alice", "1e3"], "bad_amount", 2],
    [["alice", "1.00", "x".repeat(141)], "memo_too_long", 1],
    [["--anyone", "1.00", "x".repeat(141)], "memo_too_long", 1],
    [["alice", "1.00", "--expires", "31d"], "usage", 2],
    [["alice", "1.00", "--expires", "soon"], "usage", 2],
    [["alice"], "usage", 2],
    [["--anyone"], "usage", 2],
  ];
  for (const [args, code, exit] of refusals) {
    assertFails(await world.client("bob", "request", ...args), code, exit);
  }
  assertFails(await world.client("alice", "accept", "ffffffff"), "request_unknown");
  assertFails(await world.client("alice", "accept", ""), "usage", 2);
});

test("the QR code holds the link, fits 80 columns, and goes to a new file as SVG", async () => {
  const svg = join(world.folder, "request.svg");
  const args = world.clientArgs("bob", "request", "alice", "1.00", "--qr", "--svg", svg);
  const { stdout, stderr, status } = await runTool("client.ts", args);
  assert.equal(status, 0, stderr);
  const link = String((JSON.parse(stdout) as Json).link);
  const lines = stderr.split("\n").filter((line) => /^[█▀▄ ]+$/.test(line));
  assert.ok(lines.length > 20 && lines.every((line) => line.length <= 80), stderr);
  assert.equal(await decodeBlocks(lines), link);
  assert.match(readFileSync(svg, "utf8"), /^<svg /);
  const again = await world.client("bob", "request", "alice", "1.00", "--svg", svg);
  const { error } = jsonLines(again).at(-1) as { error: Json };
  assert.deepEqual([error?.code, again.status], ["target_exists", 1], again.stdout);
});

/** Reads a QR code from lines of half blocks, light on dark. */
async function decodeBlocks(lines: readonly string[]): Promise<string> {
  const { default: decodeQr } = await import("qr/decode.js");
  const scale = 4;
  const rows = lines.flatMap((line) => {
    const halves = [...line].map((
      block,
    ) => [block === "█" || block === "▀", block === "█" || block === "▄"]);
    return [halves.map(([top]) => top), halves.map(([, bottom]) => bottom)];
  });
  const width = rows[0]!.length * scale;
  const height = rows.length * scale;
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const isLight = rows[Math.floor(y / scale)]![Math.floor(x / scale)];
      data.fill(isLight ? 255 : 0, (y * width + x) * 4, (y * width + x) * 4 + 3);
      data[(y * width + x) * 4 + 3] = 255;
    }
  }
  return decodeQr({ width, height, data });
}
