import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Uuid } from "../../lib/base/parse.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import type { Order, PaymentReference } from "../../lib/protocol/order.ts";
import { signRotation } from "../../lib/protocol/rotation.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  cancelOf,
  delegate,
  NOW_S,
  openAccounts,
  orderOf,
  type Person,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedCancel,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { closeRequest, request } from "../support/settle_world.ts";

const PEOPLE = [person("alice"), person("bob"), person("carol")];
const anyPerson = fc.nat(2);
/** Another person than the one before, counted from that one. */
const anyOther = fc.constantFrom(1, 2);
const anyMinor = fc.bigInt(1n, 400_000n) as fc.Arbitrary<Amount>;
/** An earlier payment or request, counted from the newest. */
const anyEarlier = fc.nat(3);

/** What one of three people tries. */
const anyStep = fc.record({
  what: fc.constantFrom("pay", "batch", "ask", "accept", "close", "refund", "cancel", "rotate"),
  by: anyPerson,
  other: anyOther,
  minor: anyMinor,
  earlier: anyEarlier,
});
type Step = typeof anyStep extends fc.Arbitrary<infer S> ? S : never;

/** Three people at one ledger, who know their own keys and what they have tried before. */
class Club {
  private readonly holders = [...PEOPLE];
  private readonly payments: { reference: PaymentReference; payee: number; payer: number }[] = [];
  private readonly requests: ReturnType<typeof request>[] = [];
  private rotations = 0;

  constructor(private readonly ledger: Ledger) {}

  /** What `step` submits; null for what cannot be tried yet. */
  async submission({ what, by, other, minor, earlier }: Step): Promise<Submission | null> {
    const to = (by + other) % PEOPLE.length;
    const [holder, payee] = [this.holders[by]!, this.holders[to]!];
    const payment = this.payments.at(-1 - earlier);
    const asked = this.requests.at(-1 - earlier);
    switch (what) {
      case "pay":
        return await this.order(by, to, { amount: minor });
      case "batch": {
        const third = this.holders[(to + 1) % 3]!;
        const payees = [[payee, "1.00"], [third === holder ? payee : third, "2.50"]] as const;
        const { signed, items } = await signedBatch(holder, payees);
        this.note(by, to, signed.order.claims.id, 0);
        return orderOf(signed, items);
      }
      case "ask":
        this.requests.push(request(holder, other === 1 ? payee : null, { amount: minor }));
        return this.requests.at(-1)!;
      case "accept": {
        if (asked === undefined) return null;
        const { id, amount, payee: name } = asked.request;
        const at = PEOPLE.findIndex((one) => one.name === name);
        return at === by ? null : await this.order(by, at, { amount, request: id });
      }
      case "close":
        if (asked === undefined) return null;
        return closeRequest(
          other === 1 ? PEOPLE.find(({ name }) => name === asked.request.payee)! : holder,
          asked,
        );
      case "refund":
        return payment === undefined ? null : await this.order(payment.payee, payment.payer, {
          amount: minor,
          refundOf: payment.reference,
        });
      case "cancel":
        return cancelOf(await signedCancel(holder, payment?.reference.id ?? uuid()));
      case "rotate":
        return await this.rotation(by);
    }
  }

  private async order(by: number, to: number, changed: Partial<Order>): Promise<Submission> {
    const signed = await signedOrder(this.holders[by]!, this.holders[to]!, changed);
    this.note(by, to, signed.order.claims.id, null);
    return orderOf(signed);
  }

  private note(payer: number, payee: number, id: Uuid, item: number | null): void {
    const reference = { payer: this.holders[payer]!.name, id, item };
    this.payments.push({ reference, payee, payer });
  }

  private async rotation(by: number): Promise<Submission> {
    const old: Person = this.holders[by]!;
    const pair = rsaPair(`${old.name}'s key ${this.rotations++ % 2}`);
    const { keyed } = (await this.ledger.account(old.name))!;
    const claims = { account: old.name, server: serverPair().publicKey.thumbprint };
    const signed = await signRotation(old.pair, pair, { ...claims, replaces: keyed, iat: NOW_S });
    this.holders[by] = { ...old, pair };
    return { type: "rotate", signed };
  }
}

test(
  "whatever three accounts try, in whichever commits, the ledger passes its audit",
  { timeout: 120_000 },
  async () => {
    const seen = new Set<string>();
    await delegate(PEOPLE[0]!);
    const anySteps = fc.array(fc.array(anyStep, { minLength: 1, maxLength: 6, size: "max" }), {
      minLength: 1,
      maxLength: 10,
      size: "max",
    });
    await fc.assert(
      fc.asyncProperty(anySteps, async (commits) => {
        const { ledger, folder, close } = await temporaryLedger();
        await openAccounts(ledger, ...PEOPLE);
        const club = new Club(ledger);
        for (const steps of commits) {
          const submissions: Submission[] = [];
          for (const step of steps) submissions.push(...[await club.submission(step) ?? []].flat());
          const outcomes = await Promise.all(submissions.map((one) => ledger.submit(one)));
          for (const [at, { type }] of submissions.entries()) {
            seen.add(`${type} ${outcomes[at]!.state}`);
          }
        }
        await close();
        await auditFolder(folder);
      }),
      { numRuns: 20 },
    );
    for (const type of ["order", "rotate", "cancel", "request", "close-request"]) {
      assert.ok(
        [...seen].some((one) => one.startsWith(`${type} `) && !one.endsWith("refused")),
        type,
      );
    }
  },
);
