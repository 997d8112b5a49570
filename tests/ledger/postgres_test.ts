/**
 * What a ledger on PostgreSQL does when connections break, the database goes away, or others use it
 * too.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { openPostgres } from "../../lib/ledger/postgres.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import { CuttingProxy } from "../support/cutting_proxy.ts";
import { person, uuid } from "../support/fixtures.ts";
import { type PostgresServer, tryPostgres } from "../support/postgres.ts";
import { grant } from "../support/settle_world.ts";
import {
  auditStore,
  openSharedAccounts,
  orderNow,
  sharedLedger,
} from "../support/shared_ledgers.ts";
import { temporaryFolder, until } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 60_000 };
const WAIT_MS = 20_000;

interface Opened {
  readonly url: string;
  readonly folder: string;
  readonly store: LedgerStore;
  readonly ledger: Ledger;
  readonly close: () => Promise<void>;
}

/**
 * A new ledger with accounts of alice and bob. `url`: how it is reached, from where the database
 * really is.
 */
async function newLedger(
  server: PostgresServer = database!,
  reach: (url: string) => string = (url) => url,
): Promise<Opened> {
  const url = await server.newDatabase();
  const folder = temporaryFolder();
  const store = await openPostgres(reach(url), { create: true });
  const ledger = await sharedLedger(store, folder);
  await openSharedAccounts(ledger, alice, bob);
  const close = async () => {
    await ledger.close();
    await auditStore(store, folder);
    await store.close();
  };
  return { url, folder, store, ledger, close };
}

function nameIn(url: string): string {
  return new URL(url).pathname.slice(1);
}

/** Ends sessions in that database; `kind`: write, read, listen. Gives how many there were. */
async function terminate(url: string, kind: string): Promise<number> {
  const rows = await database!.run(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = '${nameIn(url)}' AND application_name = 'sealwire ${kind}'`,
  );
  return rows.length;
}

async function throughProxy(): Promise<Opened & { proxy: CuttingProxy }> {
  const proxy = await CuttingProxy.start(database!.port);
  const opened = await newLedger(
    database!,
    (url) => url.replace(`:${database!.port}/`, `:${proxy.port}/`),
  );
  const close = async () => {
    await opened.close();
    proxy.close();
  };
  return { ...opened, proxy, close };
}

test(
  "when the answer to COMMIT is lost, what happened is found out and answered",
  options,
  async () => {
    const { ledger, store, proxy, close } = await throughProxy();
    for (let round = 1; round <= 3; round++) {
      proxy.cut = "after COMMIT";
      const size = ledger.size;
      const submission = await orderNow(alice, bob);
      const settled = await ledger.submit(submission);
      assert.deepEqual(settled, { state: "settled", index: size, again: false });
      assert.equal(proxy.cuts, round);
      assert.equal(ledger.size, size + 1);
      assert.deepEqual(await ledger.submit(submission), { ...settled, again: true });
    }
    assert.equal((await store.account(bob.name))!.balance, 1_003_750n);
    await close();
  },
);

test(
  "when COMMIT itself is lost, nothing has happened, and the same order settles later",
  options,
  async () => {
    const { ledger, store, proxy, close } = await throughProxy();
    proxy.cut = "before COMMIT";
    const { checkpoint } = ledger;
    const submission = await orderNow(alice, bob);
    await assert.rejects(ledger.submit(submission), { code: "store_unavailable" });
    assert.equal(proxy.cuts, 1);
    assert.deepEqual(ledger.checkpoint, checkpoint);
    assert.equal((await store.head())!.size, checkpoint.size);
    assert.equal((await ledger.submit(submission)).state, "settled");
    assert.equal((await store.account(bob.name))!.balance, 1_001_250n);
    await close();
  },
);

test(
  "when the answer to COMMIT is lost, another server may have gone on from it",
  options,
  async () => {
    const { ledger, folder, url, proxy, close } = await throughProxy();
    const otherStore = await openPostgres(url, { create: false });
    const other = await sharedLedger(otherStore, folder);
    for (let round = 0; round < 3; round++) {
      proxy.cut = "after COMMIT";
      const outcomes = await Promise.all([
        ledger.submit(await orderNow(alice, bob)),
        ...Array.from({ length: 5 }, () => other.submit(grant(bob, "0.01"))),
      ]);
      assert.ok(outcomes.every(({ state }) => state === "settled"));
    }
    await other.close();
    await otherStore.close();
    await close();
  },
);

test(
  "backends that are ended again and again cost no payment, and none is made twice",
  options,
  async () => {
    const { ledger, store, url, close } = await newLedger();
    let ended = 0;
    let done = false;
    const ending = (async () => {
      while (!done) {
        ended += await terminate(url, "write") + await terminate(url, "read");
        await sleep(100);
      }
    })();
    const payments = 500;
    for (let paid = 0; paid < payments; paid++) {
      const submission = grant(bob, "0.01");
      while (true) {
        try {
          assert.equal((await ledger.submit(submission)).state, "settled");
          break;
        } catch (error) {
          assert.equal((error as { code?: string }).code, "store_unavailable");
        }
      }
    }
    done = true;
    await ending;
    assert.ok(ended > 3, `only ${ended} were ended`);
    assert.equal((await store.account(bob.name))!.balance, 1_000_000n + BigInt(payments));
    await close();
  },
);

test("reads go on in a new session when theirs is ended", options, async () => {
  const { store, url, close } = await newLedger();
  for (let round = 0; round < 5; round++) {
    assert.equal((await store.account(alice.name))!.balance, 1_000_000n);
    await terminate(url, "read");
  }
  await close();
});

test(
  "deadlocks and serialization failures are tried again, and others answered by their kind",
  options,
  async () => {
    const { ledger, store, url, close } = await newLedger();
    const name = nameIn(url);
    const raise = async (code: string, times: number) => {
      await database!.run(
        `DROP SEQUENCE IF EXISTS faults CASCADE; CREATE SEQUENCE faults;
       CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF nextval('faults') <= ${times} THEN RAISE 'made up' USING ERRCODE = '${code}'; END IF;
         RETURN NEW;
       END $$;
       CREATE OR REPLACE TRIGGER fault BEFORE INSERT ON sealwire.postings EXECUTE FUNCTION fault()`,
        name,
      );
    };
    await raise("40001", 2);
    assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
    await raise("40P01", 2);
    assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
    await raise("40001", 100);
    await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "store_unavailable" });
    // disk_full
    await raise("53100", 100);
    await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "store_unavailable" });
    // insufficient_privilege, as after a REVOKE
    await raise("42501", 100);
    await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "store_unavailable" });
    await database!.run("DROP TRIGGER fault ON sealwire.postings", name);
    assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
    assert.equal((await store.account(bob.name))!.balance, 1_000_300n);
    await close();
  },
);

test("a commit that the database refuses at COMMIT leaves nothing", options, async () => {
  const { ledger, store, url, close } = await newLedger();
  await database!.run(
    `CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE 'made up' USING ERRCODE = '53100'; END $$;
     CREATE CONSTRAINT TRIGGER fault AFTER INSERT ON sealwire.entries
       DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fault()`,
    nameIn(url),
  );
  const { checkpoint } = ledger;
  const submission = await orderNow(alice, bob);
  await assert.rejects(ledger.submit(submission), { code: "store_unavailable" });
  assert.deepEqual(ledger.checkpoint, checkpoint);
  assert.equal((await store.head())!.size, checkpoint.size);
  await database!.run("DROP TRIGGER fault ON sealwire.entries", nameIn(url));
  assert.equal((await ledger.submit(submission)).state, "settled");
  await close();
});

test(
  "a server that stops in the middle of a commit holds up the others for some seconds only",
  options,
  async () => {
    const { ledger, url, close } = await newLedger();
    const admin = database!.admin(nameIn(url));
    // What a program leaves that was stopped (SIGSTOP) after it had locked the head.
    await admin.unsafe("SET idle_in_transaction_session_timeout = 1000; BEGIN");
    await admin.unsafe("SELECT * FROM sealwire.head FOR UPDATE");
    const began_ms = performance.now();
    assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
    const took_ms = performance.now() - began_ms;
    assert.ok(took_ms > 500 && took_ms < 8_000, `${took_ms} ms`);
    await admin.end({ timeout: 1 });
    await close();
  },
);

test(
  "a commit of a thousand payments is a handful of statements, and of round trips",
  options,
  async () => {
    const { ledger, url, store, folder } = await newLedger();
    await ledger.close();
    await store.close();
    await database!.run(`ALTER DATABASE ${nameIn(url)} SET log_statement = 'all'`);
    const again = await openPostgres(url, { create: false });
    const counted = await sharedLedger(again, folder);
    await counted.submit(grant(bob, "0.01"));
    const before = database!.logText.length;
    const grants = Array.from({ length: 1_000 }, () => grant(bob, "0.01"));
    await Promise.all(grants.map((one) => counted.submit(one)));
    await until(() => database!.logText.slice(before).includes("COMMIT"), WAIT_MS);
    const log = database!.logText.slice(before);
    const statements = log.match(/^.*LOG: {2}(statement|execute).*$/gm) ?? [];
    assert.equal(statements.filter((line) => line.includes("COMMIT")).length, 1);
    assert.ok(statements.length <= 14, statements.join("\n"));
    await counted.close();
    await again.close();
  },
);

test("each server hears of the others' commits, and takes them in", options, async () => {
  const { ledger, folder, url, close } = await newLedger();
  const otherStore = await openPostgres(url, { create: false });
  const other = await sharedLedger(otherStore, folder);
  const heard: number[] = [];
  otherStore.onCommitted!((size) => heard.push(size));
  await until(() => heard.includes(ledger.size), WAIT_MS);
  await ledger.submit(grant(bob, "1.00"));
  await until(() => heard.includes(ledger.size), WAIT_MS);
  await other.refresh();
  assert.deepEqual(other.checkpoint, ledger.checkpoint);

  // What is committed while the listening session is away is heard of afterwards.
  heard.length = 0;
  await until(async () => await terminate(url, "listen") > 0, WAIT_MS);
  await ledger.submit(grant(bob, "1.00"));
  await until(() => heard.includes(ledger.size), WAIT_MS);
  await ledger.submit(grant(bob, "1.00"));
  await until(() => heard.includes(ledger.size), WAIT_MS);
  await other.close();
  await otherStore.close();
  await close();
});

test(
  "while the database is away payments are refused at once, and go on when it is back",
  options,
  async () => {
    const { server } = await tryPostgres();
    const { ledger, store, close } = await newLedger(server!);
    for (const how of ["fast", "immediate"] as const) {
      await server!.stop(how);
      // The first may still be finding out.
      await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "store_unavailable" });
      const began_ms = performance.now();
      for (let tries = 0; tries < 20; tries++) {
        await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "store_unavailable" });
        await assert.rejects(store.account(bob.name), { code: "store_unavailable" });
      }
      const took_ms = performance.now() - began_ms;
      assert.ok(took_ms < 1_000, `${took_ms} ms`);
      await server!.start();
      const submission = grant(bob, "1.00");
      await until(() => ledger.submit(submission).then(() => true, () => false), WAIT_MS);
    }
    assert.equal((await store.account(bob.name))!.balance, 1_000_200n);
    await close();
    await server!.stop();
  },
);

test(
  "several programs that make or migrate the tables at once make them once",
  options,
  async () => {
    const url = await database!.newDatabase();
    const stores = await Promise.all(
      Array.from({ length: 6 }, () => openPostgres(url, { create: true })),
    );
    for (const store of stores) assert.equal(await store.head(), null);
    const [row] = await database!.run("SELECT count(*)::integer FROM sealwire.head", nameIn(url));
    assert.equal(row!.count, 1);
    await Promise.all(stores.map((store) => store.close()));
  },
);

test("entries carry the database's time, so servers' clocks may differ", options, async () => {
  const { folder, url, close } = await newLedger();
  const store = await openPostgres(url, { create: false });
  const wrong_s = Math.floor(Date.now() / 1000) + 3_600;
  const ledger = await sharedLedger(store, folder, {
    clock: { now_s: () => wrong_s, isSteady: () => true, trust: () => {} },
  });
  assert.equal((await ledger.submit(await orderNow(alice, bob, { id: uuid() }))).state, "settled");
  const { time_s } = (await store.head())!;
  assert.ok(Math.abs(time_s - Date.now() / 1000) < 5);
  await ledger.close();
  await store.close();
  await close();
});
