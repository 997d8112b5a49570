/**
 * A server process with a few accounts on it, whose balances a test watches while others misbehave.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { sha256Text } from "../../lib/protocol/token.ts";
import { type Person, person } from "./fixtures.ts";
import { jsonLines, PaymentWorld, type WorldOptions } from "./payment_world.ts";
import { refusalOf } from "./refusal.ts";
import { idOf, type SignedTexts, WireClient } from "./wire_client.ts";

/** The codes that docs/protocol/payments.md lists as a server's or a listener's: the first cells of that table. */
const LISTED_CODES: ReadonlySet<string> = new Set(
  readFileSync(new URL("../../docs/protocol/payments.md", import.meta.url), "utf8")
    .split("\n### Codes on the wire\n")[1]!.split("\n### ")[0]!
    .matchAll(/^\| `([a-z_]+)` /gm)
    .map(([, code]) => code!),
);

export class WireWorld {
  private constructor(
    readonly world: PaymentWorld,
    /** A session of each account, by name. */
    private readonly sessions: ReadonlyMap<string, WireClient>,
    private readonly witness: Person,
  ) {}

  /** Starts a server and opens accounts of 10000.00 for `names` and for one who takes no part. */
  static async start(...names: string[]): Promise<WireWorld> {
    return await WireWorld.startWith({}, ...names);
  }

  static async startWith(options: WorldOptions, ...names: string[]): Promise<WireWorld> {
    const world = await PaymentWorld.start(options);
    const witness = person("witness");
    const sessions = new Map<string, WireClient>();
    for (const holder of [...names.map(person), witness]) {
      sessions.set(holder.name, await WireClient.enter(world, holder, "account.register"));
    }
    return new WireWorld(world, sessions, witness);
  }

  /** The logged-in session of one of the accounts. */
  of(holder: Person): WireClient {
    return this.sessions.get(holder.name)!;
  }

  async balances(): Promise<Record<string, string>> {
    const rows = [...this.sessions].map(async ([name, session]) =>
      [name, await session.balance()] as const
    );
    return Object.fromEntries(await Promise.all(rows));
  }

  /** How many entries the log has. */
  async size(): Promise<number> {
    return await this.of(this.witness).size();
  }

  /** Runs `work`, after which nothing is recorded of it, and others are served as before. */
  async unharmed<T>(work: () => Promise<T>): Promise<T> {
    const before = { size: await this.size(), balances: await this.balances() };
    const result = await work();
    assert.deepEqual({ size: await this.size(), balances: await this.balances() }, before);
    await this.assertServes();
    return result;
  }

  /** A newcomer is let in and answered. */
  async assertServes(): Promise<void> {
    const client = await WireClient.enter(this.world, this.witness);
    assert.equal(await client.balance(), "10000.00");
    client.close();
  }

  /** `work` is refused with this code, which payments.md lists, and nothing is recorded of it. */
  async assertRefused(code: string, work: () => Promise<unknown>): Promise<object> {
    const refusal = await this.unharmed(() => refusalOf(work));
    assert.equal(refusal.code, code, refusal.message);
    assert.ok(LISTED_CODES.has(code), `payments.md does not list ${code}`);
    return refusal.details;
  }

  /** A new connection's login, or registration, is refused with this code, and nobody is let in. */
  async assertLetsNobodyIn(
    code: string,
    method: "session.login" | "account.register",
    delegation: (client: WireClient) => unknown,
    params: object = {},
  ): Promise<void> {
    const client = await WireClient.connect(this.world);
    await this.assertRefused(
      code,
      () => client.call(method, { delegation: delegation(client), ...params }),
    );
    await this.assertRefused("login_required", () => client.call("account.balance"));
    client.close();
  }

  /** `signed` moves its money, as an honest order does; returns the entry that says so, which the answer proves. */
  async assertSettles(by: WireClient, signed: SignedTexts): Promise<string> {
    const answer = await by.settle(signed);
    assert.equal(answer.state, "settled");
    const entry = by.provenEntry(answer);
    assert.ok(entry.type === "transfer" || entry.type === "batch", entry.type);
    assert.equal(entry.id, idOf(signed));
    assert.equal(entry.orderSha256, sha256Text(signed.order));
    assert.equal(entry.delegationSha256, sha256Text(signed.delegation));
    if (entry.type === "transfer") await by.verifiedReceipt(signed, answer);
    return String(answer.entry);
  }

  /** Stops the server, whose ledger must then be valid and sum to zero. `others`: accounts that a test opened besides. */
  async assertAuditPasses(others = 0): Promise<void> {
    const total = Object.values(await this.balances())
      .reduce((sum, balance) => sum + BigInt(balance.replace(".", "")), 0n);
    assert.equal(total, BigInt(this.sessions.size) * 1_000_000n);
    const expected = await this.size();
    for (const session of this.sessions.values()) session.close();
    assert.equal((await this.world.stop()).status, 0);
    const outcome = await this.world.operate("audit");
    const [line] = jsonLines(outcome);
    assert.equal(line?.valid, true, JSON.stringify(outcome));
    assert.equal(line?.accounts, this.sessions.size + others);
    assert.equal(line?.size, expected);
  }
}
