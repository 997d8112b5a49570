/**
 * The worked examples in docs/protocol: reads them, and makes them.
 *
 * The pages hold the keys of the examples. RSA-PSS signatures and sealed texts are random, so a
 * page is the only source of those (`RandomParts`). Everything else follows from them, byte for
 * byte: `buildExamples`. `tests/docs/make_examples.ts` writes the pages' examples anew.
 */
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { encodeBase64, encodeBase64url, type Sha256, type Uuid } from "../../lib/base/parse.ts";
import type { Ed25519KeyPair } from "../../lib/keys/ed25519.ts";
import { type AccountName, parseAccountName, type RsaKeyPair } from "../../lib/keys/rsa.ts";
import { logOrigin, signCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { formatEntry } from "../../lib/ledger/entry.ts";
import { isMove } from "../../lib/ledger/ledger.ts";
import { formatReceipt } from "../../lib/ledger/receipt.ts";
import {
  type Account,
  type CommitContext,
  type LedgerView,
  settle,
} from "../../lib/ledger/settle.ts";
import { formatVerifierKey } from "../../lib/ledger/signed_note.ts";
import { type Ending, endingKey, type Submission } from "../../lib/ledger/submission.ts";
import { emptyTree, type LogTree } from "../../lib/ledger/tiles.ts";
import { signCancel } from "../../lib/protocol/cancel.ts";
import {
  type Delegation,
  signDelegation,
  verifyDelegation,
} from "../../lib/protocol/delegation.ts";
import { hashLeaf, merklePath, merkleRoot, merkleTree } from "../../lib/protocol/merkle.ts";
import { parseAmount, UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import {
  type BatchItem,
  formatBatchItem,
  isBatch,
  parseOrder,
  signBatchOrder,
  signOrder,
} from "../../lib/protocol/order.ts";
import { signRotation, verifyRotation } from "../../lib/protocol/rotation.ts";
import { type SealedMemo, sealMemo, sealOffer } from "../../lib/protocol/sealing.ts";
import { signStatement } from "../../lib/protocol/statement.ts";
import { sha256Text, type Token } from "../../lib/protocol/token.ts";
import { ed25519PairOfSeed } from "./ed25519.ts";
import { rsaPairOf } from "./fixtures.ts";

/** The time of entry 0. */
const START_S = 1_800_000_000;
const COLUMNS = 100;
/** Sizes of the log whose checkpoints are shown: an old one, and that of all entries. */
const OLD_SIZE = 7;
/** The entries that settle the order and the batch. */
const ORDER_INDEX = 7;
const BATCH_INDEX = 8;
/** The item of the batch that the second receipt is about. */
const ITEM = 1;

export const PAGES = ["payments.md", "ledger.md", "aes_channel.md", "classic.md"] as const;

/** The text of one of {@linkcode PAGES}. */
export function readPage(page: string): string {
  return readFileSync(pagePath(page), "utf8");
}

export function pagePath(page: string): URL {
  return new URL(`../../docs/protocol/${page}`, import.meta.url);
}

/** A fenced block whose info string is `text` and a name. */
const NAMED_BLOCK = /^(```text ([a-z0-9_.]+)\n)([^]*?)^```$/gm;

/** The named examples of all pages, unfolded (RFC 8792, 7.2.2). */
export function readExamples(): Map<string, string> {
  const examples = new Map<string, string>();
  for (const page of PAGES) {
    for (const [, , name, text] of readPage(page).matchAll(NAMED_BLOCK)) {
      if (examples.has(name!)) throw new Error(`two examples are called ${name}`);
      examples.set(name!, text!.replace(/\\\n */g, ""));
    }
  }
  return examples;
}

/** A page with these examples in place of its own. Blocks without an example stay. */
export function withExamples(page: string, examples: ReadonlyMap<string, string>): string {
  return page.replace(NAMED_BLOCK, (block, fence: string, name: string) => {
    const text = examples.get(name);
    return text === undefined ? block : `${fence}${fold(text)}\`\`\``;
  });
}

/** Folds lines that are longer than a page is wide (RFC 8792, 7.2.1: a backslash ends a part). */
function fold(text: string): string {
  return text.replace(new RegExp(`^[^\n]{${COLUMNS + 1},}$`, "gm"), (line) => {
    const parts = line.match(new RegExp(`.{1,${COLUMNS - 1}}`, "g"))!;
    if (line.includes("\\") || parts.slice(1).some((part) => part.startsWith(" "))) {
      throw new Error(`cannot fold: ${line}`);
    }
    return parts.join("\\\n");
  });
}

export interface ExampleKeys {
  readonly server: RsaKeyPair;
  readonly alice: RsaKeyPair;
  readonly aliceNew: RsaKeyPair;
  readonly bob: RsaKeyPair;
  readonly log: Ed25519KeyPair;
  readonly aliceSession: Ed25519KeyPair;
  readonly bobSession: Ed25519KeyPair;
}

/** The keys of the examples. The RSA keys are in the page, and the Ed25519 seeds count upwards. */
export function exampleKeys(examples: ReadonlyMap<string, string>): ExampleKeys {
  const rsa = (name: string) => rsaPairOf(createPrivateKey(examples.get(`${name}_private.pem`)!));
  const ed25519 = (first: number) =>
    ed25519PairOfSeed(Uint8Array.from({ length: 32 }, (_, i) => first + i));
  return {
    server: rsa("server"),
    alice: rsa("alice"),
    aliceNew: rsa("alice_new"),
    bob: rsa("bob"),
    log: ed25519(0x00),
    aliceSession: ed25519(0x20),
    bobSession: ed25519(0x40),
  };
}

/** What is different each time it is made: RSA-PSS signatures and sealed texts. */
export interface RandomParts {
  readonly statement: string;
  readonly delegation: string;
  readonly bobDelegation: string;
  readonly memo: SealedMemo;
  readonly offer: string;
  readonly rotation: string;
  readonly countersignature: string;
}

/** The random parts of the pages as they are. */
export function readRandomParts(examples: ReadonlyMap<string, string>): RandomParts {
  const part = (name: string) => examples.get(name)!.trimEnd();
  const order = parseOrder(part("order")).claims;
  if (isBatch(order) || order.memo === null) throw new Error("the order has no memo");
  return {
    statement: part("statement"),
    delegation: part("delegation"),
    bobDelegation: part("bob_delegation"),
    memo: order.memo,
    offer: part("offer"),
    rotation: part("rotation"),
    countersignature: part("countersignature"),
  };
}

const ALICE = parseAccountName("alice");
const BOB = parseAccountName("bob");
const DAVE = parseAccountName("dave");
const CERT = sha256Text("the server's certificate");

export const MEMO = "two coffees";

/** Makes the random parts anew. */
export async function makeRandomParts(keys: ExampleKeys): Promise<RandomParts> {
  const server = keys.server.publicKey.thumbprint;
  const { statement, delegation, bobDelegation, memo } = {
    statement: await signStatement(keys.server, {
      cert: CERT,
      log: keys.log.publicKey,
      iat: START_S - 60,
    }),
    delegation: await delegate(keys.alice, ALICE, keys.aliceSession, 0x0a, START_S + 10),
    bobDelegation: await delegate(keys.bob, BOB, keys.bobSession, 0x0b, START_S + 20),
    memo: await sealMemo(MEMO, keys.bob.publicKey, keys.alice.publicKey),
  };
  const signedRotation = await signRotation(keys.alice, keys.aliceNew, {
    account: ALICE,
    server,
    replaces: 1,
    iat: START_S + 105,
  });
  const parts = {
    rotation: signedRotation.rotation.text,
    countersignature: signedRotation.countersignature.text,
    statement: statement.text,
    delegation: delegation.text,
    bobDelegation: bobDelegation.text,
    memo,
    offer: "",
  };
  const examples = await buildExamples(keys, parts);
  const offer = {
    order: examples.get("order")!.trimEnd(),
    delegation: delegation.text,
    checkpoint: examples.get("checkpoint_7")!,
  };
  return { ...parts, offer: await sealOffer(offer, keys.bob.publicKey) };

  function delegate(
    pair: RsaKeyPair,
    account: AccountName,
    { publicKey: session }: Ed25519KeyPair,
    nonceByte: number,
    now_s: number,
  ): Promise<Token<Delegation>> {
    const nonce = encodeBase64url(new Uint8Array(32).fill(nonceByte));
    return signDelegation(pair, { account, session, server, cert: CERT, nonce }, now_s);
  }
}

/** All examples but the keys: what follows from the keys and the random parts. */
export async function buildExamples(
  keys: ExampleKeys,
  parts: RandomParts,
): Promise<Map<string, string>> {
  const server = keys.server.publicKey.thumbprint;
  const aliceDelegation = await verifyDelegation(parts.delegation);
  const bobDelegation = await verifyDelegation(parts.bobDelegation);

  const common = { server, payer: ALICE };
  const order = await signOrder({
    ...common,
    id: uuid(4),
    payee: BOB,
    payeeKey: keys.bob.publicKey.thumbprint,
    amount: parseAmount("12.50"),
    iat: START_S + 60,
    exp: START_S + 360,
    memo: parts.memo,
    request: null,
    refundOf: null,
  }, keys.aliceSession);
  const items = batchItems(keys);
  const itemTexts = items.map(formatBatchItem);
  const batch = await signBatchOrder({
    ...common,
    id: uuid(5),
    count: items.length,
    total: parseAmount("4.25"),
    itemsRoot: merkleRoot(itemTexts),
    iat: START_S + 70,
    exp: START_S + 370,
  }, keys.aliceSession);
  const cancel = await signCancel(
    { id: uuid(6), server, payer: ALICE, iat: START_S + 80 },
    keys.aliceSession,
  );

  const ledger = new ExampleLedger(server);
  const settings = { openingBalance: 1_000_000n, registration: "open" } as const;
  ledger.commit(0, {
    type: "operator",
    fact: {
      type: "ledger.open",
      server,
      log: { crv: "Ed25519", kty: "OKP", x: keys.log.publicKey.x },
      unit: UNIT_DEFAULT,
      ...settings,
    },
  });
  ledger.commit(10, { type: "open", delegation: aliceDelegation, id: uuid(1) });
  ledger.commit(20, { type: "open", delegation: bobDelegation, id: uuid(2) });
  ledger.commit(30, { type: "open-classic", account: DAVE, id: uuid(3) });
  const signed = (token: typeof order | typeof batch) =>
    ({ order: token, delegation: aliceDelegation }) as const;
  ledger.commit(60, { type: "order", signed: signed(order), items: [] });
  ledger.commit(70, { type: "order", signed: signed(batch), items });
  ledger.commit(80, { type: "cancel", signed: { cancel, delegation: aliceDelegation } });
  ledger.commit(90, {
    type: "operator",
    fact: { type: "ledger.settings", ...settings, registration: "closed" },
  });
  const kept = ledger.tree;
  const lost = kept.appended([hashLeaf("an entry that was lost")]).tree;
  ledger.commit(100, {
    type: "operator",
    fact: {
      type: "ledger.rollback",
      keptSize: kept.size,
      keptRoot: encodeBase64url(kept.root) as Sha256,
      lostSize: lost.size,
      lostRoot: encodeBase64url(lost.root) as Sha256,
    },
  });
  const rotated = await verifyRotation(
    parts.rotation,
    parts.countersignature,
    keys.alice.publicKey,
  );
  ledger.commit(105, { type: "rotate", signed: rotated });
  const to = "database payments on db.example:5432 as sealwire";
  ledger.commit(110, { type: "operator", fact: { type: "ledger.moved", to } });
  ledger.commit(120, { type: "operator", fact: { type: "ledger.continued" } });

  const origin = logOrigin(server);
  const { tree, texts } = ledger;
  const checkpoint = async (size: number) =>
    signCheckpoint(keys.log, origin, size, await tree.rootAt(size, noTiles));
  const newest = await checkpoint(tree.size);
  const receipt = async (index: number, token: Token<unknown>, item: number | null) =>
    formatReceipt({
      order: token.text,
      delegation: aliceDelegation.text,
      item: item === null
        ? null
        : { text: itemTexts[item]!, path: merklePath(merkleTree(itemTexts), item) },
      entry: texts[index]!,
      statement: parts.statement,
      index,
      hashes: await tree.inclusionProof(index, tree.size, noTiles),
      checkpoint: newest,
    });
  const payload = (token: string) => lines(atobUrl(token.split(".")[1]!));
  const base64Lines = (hashes: readonly Uint8Array[]) => lines(...hashes.map(encodeBase64));

  return new Map([
    ["values", values(keys)],
    ["statement_payload", payload(parts.statement)],
    ["statement", lines(parts.statement)],
    ["delegation_payload", payload(parts.delegation)],
    ["delegation", lines(parts.delegation)],
    ["bob_delegation", lines(parts.bobDelegation)],
    ["order_payload", payload(order.text)],
    ["order", lines(order.text)],
    ["items", lines(...itemTexts)],
    ["item_hashes", base64Lines(itemTexts.map((text) => hashLeaf(text)))],
    ["batch_payload", payload(batch.text)],
    ["batch_order", lines(batch.text)],
    ["cancel_payload", payload(cancel.text)],
    ["cancel", lines(cancel.text)],
    ["offer", lines(parts.offer)],
    ["rotation_payload", payload(parts.rotation)],
    ["rotation", lines(parts.rotation)],
    ["countersignature", lines(parts.countersignature)],
    ["entries", lines(...texts)],
    ["leaf_hashes", base64Lines(texts.map((text) => hashLeaf(text)))],
    ["checkpoint_7", await checkpoint(OLD_SIZE)],
    ["checkpoint_15", newest],
    ["inclusion_7_15", base64Lines(await tree.inclusionProof(ORDER_INDEX, tree.size, noTiles))],
    ["consistency_7_15", base64Lines(await tree.consistencyProof(OLD_SIZE, tree.size, noTiles))],
    ["receipt", await receipt(ORDER_INDEX, order, null)],
    ["batch_receipt", await receipt(BATCH_INDEX, batch, ITEM)],
  ]);
}

function batchItems(keys: ExampleKeys): BatchItem[] {
  const bobKey = keys.bob.publicKey.thumbprint;
  const rows = [[BOB, bobKey, "1.00"], [DAVE, null, "2.50"], [BOB, bobKey, "0.75"]] as const;
  return rows.map(([payee, payeeKey, amount], index) => ({
    index,
    payee,
    payeeKey,
    amount: parseAmount(amount),
    salt: saltOf(0x80 + index),
  }));
}

function values(keys: ExampleKeys): string {
  const server = keys.server.publicKey.thumbprint;
  const name = logOrigin(server);
  const verifierKey = formatVerifierKey({ name, publicKey: keys.log.publicKey });
  return lines(
    `server's thumbprint  ${server}`,
    `alice's thumbprint   ${keys.alice.publicKey.thumbprint}`,
    `alice's new key      ${keys.aliceNew.publicKey.thumbprint}`,
    `bob's thumbprint     ${keys.bob.publicKey.thumbprint}`,
    `log key, x           ${keys.log.publicKey.x}`,
    `alice's session, x   ${keys.aliceSession.publicKey.x}`,
    `bob's session, x     ${keys.bobSession.publicKey.x}`,
    `verifier key         ${verifierKey}`,
  );
}

/** A ledger in memory, with salts that count upwards, one submission a commit. */
class ExampleLedger {
  readonly texts: string[] = [];
  tree: LogTree = emptyTree();
  private readonly accounts = new Map<string, Account>();
  private readonly endings = new Map<string, Ending>();
  private settings: CommitContext["settings"] = { openingBalance: 0n, registration: "open" };

  constructor(private readonly server: Sha256) {}

  commit(after_s: number, submission: Submission): void {
    let salts = this.texts.length;
    const context: CommitContext = {
      isMoved: isMove(this.texts.at(-1)),
      time_s: START_S + after_s,
      firstIndex: this.texts.length,
      server: this.server,
      unit: UNIT_DEFAULT,
      settings: this.settings,
      makeSalt: () => saltOf(salts++),
    };
    const view: LedgerView = {
      accounts: this.accounts,
      endings: this.endings,
      requests: new Map(),
      pendingRequests: new Map(),
      refundTargets: new Map(),
    };
    const settlement = settle(context, view, [submission]);
    if (settlement.entries.length === 0) {
      throw new Error(`an example is refused: ${JSON.stringify(settlement.outcomes)}`);
    }
    for (const account of settlement.accounts) this.accounts.set(account.name, account);
    for (const end of settlement.newEndings) this.endings.set(endingKey(end.payer, end.id), end);
    this.settings = settlement.settings;
    const texts = settlement.entries.map(formatEntry);
    this.texts.push(...texts);
    this.tree = this.tree.appended(texts.map((text) => hashLeaf(text))).tree;
  }
}

/** A log of a dozen entries is all in memory. */
function noTiles(): never {
  throw new Error("no tile is full yet");
}

function saltOf(byte: number): string {
  return encodeBase64url(new Uint8Array(16).fill(byte));
}

function uuid(last: number): Uuid {
  return `00000000-0000-4000-8000-00000000000${last}` as Uuid;
}

function atobUrl(text: string): string {
  return new TextDecoder().decode(Uint8Array.fromBase64(text, { alphabet: "base64url" }));
}

function lines(...texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}
