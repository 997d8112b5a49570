import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  loadAccountKeys,
  loadOrMakeAccountKeys,
  loadServerPublicKey,
} from "../../lib/keys/key_files.ts";
import { parseAccountName, rsaPublicKeyOf } from "../../lib/keys/rsa.ts";
import { openssl } from "../support/openssl.ts";
import { refusalOf, unwritableFolder } from "../support/refusal.ts";
import { runTool, temporaryFolder } from "../support/support.ts";

/** Making RSA keys takes as long as luck has it. */
const SLOW = { timeout: 60_000 };
const ALICE = parseAccountName("alice");
const PRIVATE = "alice_private.pem";
const PUBLIC = "alice_public.pem";

/** A folder with a private key of alice's, made by `openssl` as `args` say. */
function folderWithKey(...args: string[]): string {
  const folder = temporaryFolder();
  openssl(folder, ...args, "-out", PRIVATE);
  chmodSync(join(folder, PRIVATE), 0o600);
  return folder;
}

function modeOf(folder: string, name: string): number {
  return statSync(join(folder, name)).mode & 0o777;
}

test(
  "missing account keys are made once: RSA 2048, private file 0600, readable by openssl",
  SLOW,
  async () => {
    const folder = join(temporaryFolder(), "new", "keys");
    const first = await loadOrMakeAccountKeys(folder, ALICE);
    assert.equal(first.made, true);
    assert.deepEqual(first.warnings, []);
    assert.deepEqual(readdirSync(folder).sort(), [PRIVATE, PUBLIC]);
    assert.equal(modeOf(folder, PRIVATE), 0o600);
    const text = openssl(folder, "pkey", "-in", PRIVATE, "-noout", "-text", "-check");
    assert.match(text, /Key is valid/);
    assert.match(text, /2048 bit/);
    const derived = openssl(folder, "rsa", "-in", PRIVATE, "-pubout");
    assert.equal(readFileSync(join(folder, PUBLIC), "utf8"), derived);

    const before = readFileSync(join(folder, PRIVATE), "utf8");
    const second = await loadOrMakeAccountKeys(folder, ALICE);
    assert.equal(second.made, false);
    assert.equal(second.pair.publicKey.thumbprint, first.pair.publicKey.thumbprint);
    assert.equal(readFileSync(join(folder, PRIVATE), "utf8"), before);
  },
);

test("a loaded pair is the one that was made, its halves fitting each other", SLOW, async () => {
  const folder = temporaryFolder();
  const { pair } = await loadOrMakeAccountKeys(folder, ALICE);
  const loaded = await loadAccountKeys(folder, ALICE);
  assert.equal(loaded.publicKey.thumbprint, pair.publicKey.thumbprint);
  assert.equal(rsaPublicKeyOf(loaded.privateKey).thumbprint, pair.publicKey.thumbprint);
  const fromFile = loadServerPublicKey(join(folder, PUBLIC));
  assert.equal(fromFile.thumbprint, pair.publicKey.thumbprint);
});

const OPENSSL_KEYS: Record<string, string[]> = {
  "openssl genpkey": ["genpkey", "-algorithm", "RSA"],
  "openssl genpkey with 4096 bits": [
    "genpkey",
    "-algorithm",
    "RSA",
    "-pkeyopt",
    "rsa_keygen_bits:4096",
  ],
  "openssl genrsa": ["genrsa"],
  "openssl genrsa -traditional (PKCS #1)": ["genrsa", "-traditional"],
};
for (const [what, args] of Object.entries(OPENSSL_KEYS)) {
  test(
    `a key from ${what} is used as it is, and its public file made`,
    { timeout: 60_000 },
    async () => {
      const folder = folderWithKey(...args);
      const before = readFileSync(join(folder, PRIVATE), "utf8");
      const { pair, made, warnings } = await loadOrMakeAccountKeys(folder, ALICE);
      assert.equal(made, false);
      assert.deepEqual(warnings, []);
      assert.equal(readFileSync(join(folder, PRIVATE), "utf8"), before);
      const derived = openssl(folder, "rsa", "-in", PRIVATE, "-pubout");
      assert.equal(readFileSync(join(folder, PUBLIC), "utf8"), derived);
      const loaded = loadServerPublicKey(join(folder, PUBLIC));
      assert.equal(loaded.thumbprint, pair.publicKey.thumbprint);
    },
  );
}

test("keys with Windows line ends are read", SLOW, async () => {
  const folder = folderWithKey("genpkey", "-algorithm", "RSA");
  openssl(folder, "rsa", "-in", PRIVATE, "-pubout", "-out", PUBLIC);
  for (const name of [PRIVATE, PUBLIC]) {
    const path = join(folder, name);
    writeFileSync(path, readFileSync(path, "utf8").replaceAll("\n", "\r\n"));
  }
  await loadAccountKeys(folder, ALICE);
});

test("a private key needs no public file to be loaded, and none is then made", SLOW, async () => {
  const folder = folderWithKey("genpkey", "-algorithm", "RSA");
  await loadAccountKeys(folder, ALICE);
  assert.deepEqual(readdirSync(folder), [PRIVATE]);
});

test("a private file that others can read is warned of, and works", SLOW, async () => {
  const folder = folderWithKey("genpkey", "-algorithm", "RSA");
  for (const mode of [0o644, 0o640, 0o606]) {
    chmodSync(join(folder, PRIVATE), mode);
    const { warnings } = await loadAccountKeys(folder, ALICE);
    const path = join(folder, PRIVATE);
    assert.deepEqual(warnings, [`other users can read ${path}: chmod 600 ${path}`]);
    assert.deepEqual((await loadOrMakeAccountKeys(folder, ALICE)).warnings, warnings);
  }
});

test("keys that are not there are key_missing, and nothing is made", SLOW, async () => {
  const folder = temporaryFolder();
  const error = await refusalOf(() => loadAccountKeys(folder, ALICE));
  assert.equal(error.code, "key_missing");
  assert.equal(error.message, `there is no ${join(folder, PRIVATE)}`);
  assert.equal((await refusalOf(() => loadServerPublicKey(join(folder, "x")))).code, "key_missing");
  assert.deepEqual(readdirSync(folder), []);
});

test(
  "a public key without its private key is not made anew, but named with what to do",
  SLOW,
  async () => {
    const folder = folderWithKey("genpkey", "-algorithm", "RSA");
    openssl(folder, "rsa", "-in", PRIVATE, "-pubout", "-out", "bob_public.pem");
    const error = await refusalOf(() => loadOrMakeAccountKeys(folder, parseAccountName("bob")));
    assert.equal(error.code, "key_missing");
    assert.match(
      error.message,
      /bob_public\.pem is there, but its private key .*bob_private\.pem is not: put it back/,
    );
    assert.deepEqual(readdirSync(folder).sort(), [PRIVATE, "bob_public.pem"]);
  },
);

test("a public file of another key is key_mismatch, says what to do, and stays", SLOW, async () => {
  const folder = folderWithKey("genpkey", "-algorithm", "RSA");
  openssl(folder, "genpkey", "-algorithm", "RSA", "-out", "other.pem");
  openssl(folder, "rsa", "-in", "other.pem", "-pubout", "-out", PUBLIC);
  const before = readFileSync(join(folder, PUBLIC), "utf8");
  for (const load of [loadAccountKeys, loadOrMakeAccountKeys]) {
    const error = await refusalOf(() => load(folder, ALICE));
    assert.equal(error.code, "key_mismatch");
    assert.match(
      error.message,
      /alice_public\.pem does not belong to .*alice_private\.pem: put back/,
    );
  }
  assert.equal(readFileSync(join(folder, PUBLIC), "utf8"), before);
});

const BAD_KEYS: Record<string, string[]> = {
  "RSA with 1024 bits": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
  "RSA with the exponent 3": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_pubexp:3"],
  "RSA with the exponent 65539": [
    "genpkey",
    "-algorithm",
    "RSA",
    "-pkeyopt",
    "rsa_keygen_pubexp:65539",
  ],
  "an EC key": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
  "an Ed25519 key": ["genpkey", "-algorithm", "ed25519"],
};
for (const [what, args] of Object.entries(BAD_KEYS)) {
  test(`${what} is a bad_key, named by its file, and stays`, SLOW, async () => {
    const folder = folderWithKey(...args);
    for (const load of [loadAccountKeys, loadOrMakeAccountKeys]) {
      const error = await refusalOf(() => load(folder, ALICE));
      assert.equal(error.code, "bad_key");
      assert.match(
        error.message,
        /alice_private\.pem: this is not an RSA key of 2048 to 4096 bits/,
      );
    }
    assert.deepEqual(readdirSync(folder), [PRIVATE]);
  });
}

const LOCKED_KEYS: Record<string, string[]> = {
  "PKCS #8": ["genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:secret"],
  "PKCS #1": ["genrsa", "-traditional", "-aes256", "-passout", "pass:secret"],
};
for (const [form, args] of Object.entries(LOCKED_KEYS)) {
  test(
    `a private key under a passphrase (${form}) is unreadable, with the command that unlocks it`,
    SLOW,
    async () => {
      const folder = folderWithKey(...args);
      const error = await refusalOf(() => loadAccountKeys(folder, ALICE));
      assert.equal(error.code, "key_unreadable");
      const command = /"(openssl pkey -in .*alice_private\.pem) -out unlocked\.pem"/.exec(
        error.message,
      );
      assert.ok(command, error.message);
      const [, ...words] = command[1]!.split(" ");
      const unlocked = openssl(folder, ...words, "-passin", "pass:secret");
      writeFileSync(join(folder, PRIVATE), unlocked);
      await loadAccountKeys(folder, ALICE);
    },
  );
}

test(
  "a private file that holds no key of a known kind is unreadable, named, and stays",
  SLOW,
  async () => {
    const pss = folderWithKey("genpkey", "-algorithm", "RSA-PSS");
    const sound = folderWithKey("genpkey", "-algorithm", "RSA");
    const publicPem = openssl(sound, "rsa", "-in", PRIVATE, "-pubout");
    const contents = [
      readFileSync(join(pss, PRIVATE), "utf8"),
      readFileSync(join(sound, PRIVATE), "utf8").slice(0, 500),
      publicPem,
      "garbage",
      "",
    ];
    for (const content of contents) {
      const folder = temporaryFolder();
      writeFileSync(join(folder, PRIVATE), content, { mode: 0o600 });
      for (const load of [loadAccountKeys, loadOrMakeAccountKeys]) {
        const error = await refusalOf(() => load(folder, ALICE));
        assert.equal(error.code, "key_unreadable");
        assert.match(error.message, /alice_private\.pem holds no PEM private key/);
      }
      assert.deepEqual(readdirSync(folder), [PRIVATE]);
    }
  },
);

test("a key file that is a folder or far too long is unreadable", SLOW, async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, PRIVATE));
  writeFileSync(join(folder, "bob_private.pem"), "x".repeat(100_000));
  for (const name of ["alice", "bob"]) {
    const error = await refusalOf(() => loadAccountKeys(folder, parseAccountName(name)));
    assert.equal(error.code, "key_unreadable");
    assert.match(error.message, new RegExp(`cannot read .*${name}_private.pem: it is `));
  }
});

test("a public file that holds no RSA public key is refused, named", SLOW, async () => {
  const folder = folderWithKey("genpkey", "-algorithm", "RSA");
  const path = join(folder, "server_public.pem");
  writeFileSync(path, "garbage");
  const garbage = await refusalOf(() => loadServerPublicKey(path));
  assert.equal(garbage.code, "key_unreadable");
  assert.equal(garbage.message, `${path} holds no PEM public key`);
  // Easily mixed up, and dangerous to send around.
  copyFileSync(join(folder, PRIVATE), path);
  const mixedUp = await refusalOf(() => loadServerPublicKey(path));
  assert.equal(mixedUp.code, "bad_key");
  assert.ok(mixedUp.message.startsWith(`${path}: `));
});

test("a folder that cannot be made or written in is folder_unwritable, named", SLOW, async () => {
  const file = join(temporaryFolder(), "file");
  writeFileSync(file, "");
  for (const folder of [file, join(file, "keys"), unwritableFolder()]) {
    const error = await refusalOf(() => loadOrMakeAccountKeys(folder, ALICE));
    assert.equal(error.code, "folder_unwritable");
    assert.ok(error.message.startsWith(`cannot write in the folder ${folder}: `), error.message);
  }
});

test("eight processes that start on an empty folder end up with one pair", SLOW, async () => {
  for (let round = 0; round < 2; round++) {
    const folder = join(temporaryFolder(), "keys");
    const args = ["account", folder, "alice"];
    const runs = Array.from({ length: 8 }, () => runTool("tests/support/keys_worker.ts", args));
    const results = (await Promise.all(runs)).map(({ stdout }) => JSON.parse(stdout));
    assert.equal(
      new Set(results.map(({ thumbprint }) => thumbprint)).size,
      1,
      JSON.stringify(results),
    );
    assert.equal(results.filter(({ made }) => made).length, 1);
    const { publicKey } = await loadAccountKeys(folder, ALICE);
    assert.equal(publicKey.thumbprint, results[0].thumbprint);
    assert.deepEqual(readdirSync(folder).sort(), [PRIVATE, PUBLIC]);
  }
});
