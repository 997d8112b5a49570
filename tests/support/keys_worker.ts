/** One of several processes that work on the same keys folder at once: `keys_worker.ts <task> <folder> [<word>…]`. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { isSealwireError } from "../../lib/base/errors.ts";
import { createFileAtomic, writeFileAtomic } from "../../lib/base/files.ts";
import { withFileLock } from "../../lib/base/file_lock.ts";
import { loadOrMakeAccountKeys } from "../../lib/keys/key_files.ts";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import { loadOrMakeServerKeys } from "../../lib/keys/server_keys.ts";
import { KnownPayees, KnownServers } from "../../lib/keys/known_keys.ts";

const [task = "", folder = "", ...words] = process.argv.slice(2);

const TASKS: Record<string, () => unknown> = {
  async account() {
    const { pair, made } = await loadOrMakeAccountKeys(folder, parseAccountName(words[0]));
    return { thumbprint: pair.publicKey.thumbprint, made };
  },
  async server() {
    const { keys, made } = await loadOrMakeServerKeys(folder, { hosts: [], now: new Date() });
    const { thumbprint } = keys.pair.publicKey;
    return { thumbprint, certificate: keys.certificateSha256, tlsKey: keys.tlsKeyPem, made };
  },
  create() {
    return { created: createFileAtomic(join(folder, "file"), words[0]!, 0o600) };
  },
  /** Never ends: each whole content is one letter, a megabyte of it. */
  overwrite() {
    for (let turn = 0;; turn++) {
      writeFileAtomic(join(folder, "file"), "ab"[turn % 2]!.repeat(1_000_000), 0o600);
      if (turn === 0) console.log("{}");
    }
  },
  count() {
    const path = join(folder, "counter");
    for (let turn = 0; turn < Number(words[0]); turn++) {
      withFileLock(path, () => writeFileSync(path, String(Number(readFileSync(path, "utf8")) + 1)));
    }
    return {};
  },
  lock() {
    return withFileLock(join(folder, "file"), () => ({ locked: true }));
  },
  /** Never ends, holding the lock. */
  hold() {
    return withFileLock(join(folder, "file"), () => {
      console.log("{}");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });
  },
  payees() {
    const [server, key, prefix, count] = words;
    for (let index = 0; index < Number(count); index++) {
      new KnownPayees(folder).pin(
        server!,
        new Map([[parseAccountName(`${prefix}${index}`), key!]]),
      );
    }
    return {};
  },
  servers() {
    const [certificatePath, host, count] = words;
    const certificatePem = readFileSync(certificatePath!, "utf8");
    for (let port = 1; port <= Number(count); port++) {
      new KnownServers(folder).record(host!, port, { certificatePem, identity: null });
    }
    return {};
  },
};

try {
  console.log(JSON.stringify(await TASKS[task]!()));
} catch (error) {
  if (!isSealwireError(error)) throw error;
  const left = readdirSync(folder);
  console.log(JSON.stringify({ code: error.code, message: error.message, left }));
}
