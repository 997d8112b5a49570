import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import type { AccountKey } from "../../lib/ledger/entry.ts";
import type { Outcome } from "../../lib/ledger/submission.ts";
import { type Rotation, type SignedRotation, signRotation } from "../../lib/protocol/rotation.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  cancelOf,
  NOW_S,
  openAccounts,
  orderOf,
  type Person,
  person,
  rsaPair,
  serverPair,
  signedCancel,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { appendForged } from "../support/forged_entries.ts";
import {
  assertRefused,
  cancel,
  open,
  openClassic,
  order,
  rotate,
  worldOf,
} from "../support/settle_world.ts";
import { tamper } from "../support/tamper.ts";

const alice = person("alice");
const bob = person("bob");
/** The same people with the key that they change to. */
const alice2: Person = { ...alice, pair: rsaPair("alice's second key") };
const alice3: Person = { ...alice, pair: rsaPair("alice's third key") };
const keyOf = ({ pair }: Person) => pair.publicKey.thumbprint;
const server = serverPair().publicKey.thumbprint;

test("the account has the new key from the entry on, and its balance as before", () => {
  const world = worldOf(alice, bob);
  const before = world.accounts.get(alice.name)!;
  const rotates = rotate(alice, alice2.pair, before.keyed);
  assert.deepEqual(world.one(rotates), { state: "rotated", index: 4, again: false });
  assert.deepEqual(world.accounts.get(alice.name), {
    ...before,
    key: keyOf(alice2),
    keyed: 4,
    changed: 4,
  });
  assert.deepEqual(world.one(rotates), { state: "rotated", index: 4, again: true });
});

test("the old key pays and cancels no more, and is no payee's key", () => {
  const world = worldOf(alice, bob);
  const early = order(alice, bob);
  world.one(early);
  world.one(rotate(alice, alice2.pair, world.accounts.get(alice.name)!.keyed));
  assertRefused(world, order(alice, bob), "wrong_key");
  assertRefused(world, cancel(alice, uuid()), "wrong_key");
  assertRefused(world, order(bob, alice), "payee_key_changed");
  assertRefused(world, open(alice), "name_taken");
  assert.deepEqual(world.one(early), { state: "settled", index: 4, again: true });
  assert.equal(world.one(order(alice2, bob)).state, "settled");
  assert.equal(world.one(order(bob, alice2)).state, "settled");
  assert.equal(world.one(cancel(alice2, uuid())).state, "cancelled");
});

test("an order and a rotation in one commit: the first one counts", () => {
  const world = worldOf(alice, bob);
  const rotates = rotate(alice, alice2.pair, world.accounts.get(alice.name)!.keyed);
  const { outcomes } = world.commit(order(alice, bob), rotates, order(alice, bob));
  assert.deepEqual(outcomes.map(({ state }) => state), ["settled", "rotated", "refused"]);
});

test("two rotations by one key: the first one counts", () => {
  const world = worldOf(alice, bob);
  const { keyed } = world.accounts.get(alice.name)!;
  const [first, second] = [rotate(alice, alice2.pair, keyed), rotate(alice, alice3.pair, keyed)];
  const { outcomes } = world.commit(first, second);
  assert.deepEqual(outcomes[1], { state: "refused", reason: "wrong_key" });
  assertRefused(world, second, "wrong_key");
  assert.equal(world.one(rotate(alice2, alice3.pair, 4)).state, "rotated");
});

test("a rotation by a replaced key that guesses the next entry's index is refused", () => {
  const world = worldOf(alice, bob);
  const { keyed } = world.accounts.get(alice.name)!;
  const guess = rotate(alice, alice3.pair, world.entries.length);
  const { outcomes } = world.commit(rotate(alice, alice2.pair, keyed), guess);
  assert.deepEqual(outcomes[1], { state: "refused", reason: "wrong_key" });
});

test("a rotation is for this server, an account that has a key, and not from the future", () => {
  const world = worldOf(alice, bob);
  const { keyed } = world.accounts.get(alice.name)!;
  const changed = (claims: Partial<Rotation>) => rotate(alice, alice2.pair, keyed, claims);
  assertRefused(world, changed({ server: sha256Text("another") }), "wrong_server");
  assertRefused(world, changed({ account: parseAccountName("nobody") }), "wrong_key");
  assertRefused(world, changed({ iat: NOW_S + 61 }), "order_from_future");
  const dora = parseAccountName("dora");
  world.one(openClassic(dora));
  const { keyed: opened } = world.accounts.get(dora)!;
  assertRefused(world, changed({ account: dora, replaces: opened }), "wrong_key");
});

async function signed(from: Person, to: Person, replaces: number): Promise<SignedRotation> {
  const claims = { account: from.name, server, replaces, iat: NOW_S };
  return await signRotation(from.pair, to.pair, claims);
}

/** Entries 1 and 2 open alice, 5 gives her a second key and 7 a third. */
async function rotatedLedger() {
  const opened = await temporaryLedger();
  const { ledger } = opened;
  await openAccounts(ledger, alice, bob);
  const first = await signed(alice, alice2, 1);
  const outcomes: Outcome[] = [await ledger.submit({ type: "rotate", signed: first })];
  outcomes.push(await ledger.submit(orderOf(await signedOrder(alice2, bob))));
  const second = await signed(alice2, alice3, 5);
  outcomes.push(await ledger.submit({ type: "rotate", signed: second }));
  assert.deepEqual(outcomes.map(({ state }) => state), ["rotated", "settled", "rotated"]);
  await ledger.submit(cancelOf(await signedCancel(alice3, uuid())));
  return { ...opened, first, second };
}

test("a ledger with rotations shows how a key came to be, and passes its audit", async () => {
  const { ledger, folder, first, second, close } = await rotatedLedger();
  const stored = await ledger.account(alice.name);
  assert.deepEqual([stored?.key, stored?.keyed, stored?.jwk], [
    keyOf(alice3),
    7,
    alice3.pair.publicKey.jwk,
  ]);
  const chainFrom = async (by: Person) =>
    (await ledger.keyChain(alice.name, keyOf(by))).map(({ proven, oldKey, ...tokens }) => ({
      index: proven.index,
      oldKey: oldKey.n,
      ...tokens,
    }));
  const links = [[5, alice, first], [7, alice2, second]] as const;
  const expected = links.map(([index, old, { rotation, countersignature }]) => ({
    index,
    oldKey: old.pair.publicKey.jwk.n,
    rotation: rotation.text,
    countersignature: countersignature.text,
  }));
  assert.deepEqual(await chainFrom(alice), expected);
  assert.deepEqual(await chainFrom(alice2), expected.slice(1));
  assert.deepEqual(await chainFrom(alice3), []);
  assert.deepEqual(await chainFrom(bob), []);
  assert.deepEqual(await ledger.keyChain(parseAccountName("nobody"), keyOf(alice)), []);
  await close();
  await auditFolder(folder);
});

test("two processes on one database: one rotation counts", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const other = await temporaryLedger(folder);
  const outcomes = await Promise.all([
    ledger.submit({ type: "rotate", signed: await signed(alice, alice2, 1) }),
    other.ledger.submit({ type: "rotate", signed: await signed(alice, alice3, 1) }),
  ]);
  assert.deepEqual(outcomes.map(({ state }) => state).sort(), ["refused", "rotated"]);
  await other.close();
  await close();
  await auditFolder(folder);
});

test("the old key put back in the database is no key", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  await ledger.submit({ type: "rotate", signed: await signed(alice, alice2, 1) });
  await close();
  tamper(folder, `UPDATE accounts SET key = '${keyOf(alice)}' WHERE name = 'alice'`);
  const { ledger: again, close: closeAgain } = await temporaryLedger(folder);
  const pay = again.submit(orderOf(await signedOrder(alice, bob)));
  await assert.rejects(pay, { code: "store_damaged" });
  await closeAgain();
});

test("audit finds a rotation that is missing or another one", async () => {
  for (const sql of ["DELETE FROM rotations", "UPDATE rotations SET text = 'x'"]) {
    const { folder, close } = await rotatedLedger();
    await close();
    tamper(folder, sql);
    await assert.rejects(auditFolder(folder), { code: "audit_failed", message: /^entry 5: / }, sql);
  }
});

/** An operator's ledger in which alice's key is replaced by mallory's. */
async function forgedRotation(
  rotation: (replaces: number) => Promise<SignedRotation>,
  changed: Partial<AccountKey> = {},
): Promise<string> {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  await close();
  const tokens = await rotation(1);
  const { claims, sha256: rotationSha256 } = tokens.rotation;
  const entry: AccountKey = {
    type: "account.key",
    account: alice.name,
    key: claims.key.thumbprint,
    replaces: 1,
    rotationSha256,
    countersignatureSha256: tokens.countersignature.sha256,
    ...changed,
  };
  const rotations = [tokens.rotation, tokens.countersignature];
  await appendForged(folder, { entries: [entry], rotations, jwk: claims.key.jwk });
  return folder;
}

test("audit accepts a rotation that the rules would have made", async () => {
  await auditFolder(await forgedRotation((replaces) => signed(alice, alice2, replaces)));
});

test("audit finds rotations that the old key did not sign, or the rules forbid", async () => {
  const found = async (folder: Promise<string>, sentence: RegExp) =>
    await assert.rejects(auditFolder(await folder), { code: "audit_failed", message: sentence });
  const mallory: Person = { ...person("mallory"), name: alice.name };
  await found(forgedRotation((at) => signed(mallory, alice2, at)), /entry 5: /);
  const right = (at: number) => signed(alice, alice2, at);
  const mixed = async (at: number): Promise<SignedRotation> => ({
    ...await right(at),
    countersignature: (await signed(alice, alice3, at)).countersignature,
  });
  await found(forgedRotation(mixed), /countersigned something else/);
  await found(forgedRotation(() => signed(alice, alice2, 3)), /gives another key/);
  await found(forgedRotation(right, { replaces: 3 }), /replaces another key/);
  await found(forgedRotation(right, { account: bob.name }), /replaces another key/);
  await found(forgedRotation(right, { key: keyOf(alice3) }), /gives another key/);
  const later = (replaces: number) =>
    signRotation(alice.pair, alice2.pair, {
      account: alice.name,
      server,
      replaces,
      iat: NOW_S + 61,
    });
  await found(forgedRotation(later), /from the future/);
  const elsewhere = (replaces: number) =>
    signRotation(alice.pair, alice2.pair, {
      account: alice.name,
      server: sha256Text("another server"),
      replaces,
      iat: NOW_S,
    });
  await found(forgedRotation(elsewhere), /gives another key/);
});
