/**
 * Ten clients keep paying while the server is killed and restarted: all come back, and nothing is
 * unexplained.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Json, jsonLines, PaymentWorld } from "../../../support/payment_world.ts";
import { spawnTool, type ToolProcess } from "../../../support/support.ts";

const CLIENTS = 10;
const KILLS = 4;
const DOWN_MS = 1_500;
const COMES_BACK_WITHIN_MS = 5_000;

/** A prompt that pays again and again. */
class Payer {
  /** Ids that were said to be paid. */
  readonly paid = new Set<string>();
  /** Ids of which it was not known what they came to. */
  readonly unknown = new Set<string>();
  last_paid_at_ms = 0;
  private paying = true;
  private readonly done: Promise<void>;

  constructor(readonly tool: ToolProcess) {
    this.done = this.payOn();
  }

  async stop(): Promise<void> {
    this.paying = false;
    await this.done;
    this.tool.type("exit\n");
    const { status, stderr } = await this.tool.ended;
    assert.equal(status, 0, stderr);
    for (const [, id] of stderr.matchAll(/payment ([0-9a-f-]{36}) .*left unfinished.* settled/g)) {
      this.paid.add(id!);
      this.unknown.delete(id!);
    }
    for (const [, id] of stderr.matchAll(/payment ([0-9a-f-]{36}) .*left unfinished.* not paid/g)) {
      this.unknown.delete(id!);
    }
  }

  private async payOn(): Promise<void> {
    while (this.paying) {
      this.tool.type("pay hub 1\n");
      const answer = await this.tool.nextJson((line) => "payment" in line || "error" in line);
      if (answer.error === undefined) {
        this.paid.add(String(answer.payment));
        this.last_paid_at_ms = performance.now();
      } else {
        const { code } = answer.error as Json;
        if (code === "outcome_unknown") this.unknown.add(String(answer.payment));
        await sleep(100);
      }
    }
  }
}

test(
  "ten clients come back within five seconds of each restart, and nothing is unexplained",
  { timeout: 600_000 },
  async () => {
    const world = await PaymentWorld.start();
    await world.register("hub");
    const payers: Payer[] = [];
    for (let index = 0; index < CLIENTS; index++) {
      const name = `payer${index}`;
      await world.register(name);
      payers.push(
        new Payer(spawnTool("client.ts", world.clientArgs(name), { timeout_ms: 600_000 })),
      );
    }
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(2_000);
      await world.server.stop("SIGKILL");
      await sleep(DOWN_MS);
      await world.startServer();
      const started_ms = performance.now();
      await sleep(COMES_BACK_WITHIN_MS);
      for (const [index, payer] of payers.entries()) {
        assert.ok(payer.last_paid_at_ms > started_ms, `payer${index}: ${payer.tool.stderrText}`);
      }
    }
    for (const payer of payers) await payer.stop();
    const rows = jsonLines(await world.client("hub", "history"));
    const settled = rows.map(({ payment }) => String(payment)).slice(1).sort();
    const explained = payers.flatMap(({ paid }) => [...paid]).sort();
    assert.deepEqual(payers.flatMap(({ unknown }) => [...unknown]), []);
    assert.deepEqual(settled, explained);
    await world.stop();
  },
);
