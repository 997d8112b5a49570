import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  decryptAES,
  encryptAES,
  generateAESKey,
  loadKeyFile,
  loadOrMakeKeyFile,
  writeKeyFile,
} from "../lib/aes_utils.ts";
import { RUNTIME, temporaryFolder } from "./support/support.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "./support/vectors.ts";

const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i);

vectorTest<Wycheproof<{ key: string; iv: string; msg: string; ct: string }, { keySize: number }>>(
  "every Wycheproof AES-CBC text of 128-bit keys comes out, and wrong padding is refused",
  "wycheproof_aes_cbc_pkcs5_test.json",
  (vectors) => {
    const tests = allTests(vectors);
    for (const { tcId, group, key, iv, msg, ct, result } of tests) {
      const decrypt = () => decryptAES(hex(ct), hex(key), hex(iv));
      if (group.keySize !== 128) {
        assert.throws(decrypt, RangeError, `test ${tcId}`);
      } else if (result === "valid") {
        assert.deepEqual(decrypt(), hex(msg), `test ${tcId}`);
        assert.deepEqual(encryptAES(hex(msg), hex(key), hex(iv)), hex(ct), `test ${tcId}`);
      } else {
        assert.throws(decrypt, { code: "decrypt_failed" }, `test ${tcId}`);
      }
    }
    assert.ok(tests.some((t) => t.group.keySize === 128 && t.result === "invalid"));
  },
);

/**
 * Through files: a synchronous child that is fed by a pipe blocks on Deno once both pipes are full.
 */
function openssl(folder: string, args: string[], input: Uint8Array): Uint8Array {
  const [inPath, outPath] = [join(folder, "in"), join(folder, "out")];
  writeFileSync(inPath, input);
  const result = spawnSync("openssl", [...args, "-in", inPath, "-out", outPath]);
  assert.equal(result.status, 0, String(result.stderr));
  return new Uint8Array(readFileSync(outPath));
}

test(
  "openssl enc reads what encryptAES writes, and the other way round",
  { timeout: 60_000 },
  () => {
    const { key, iv } = generateAESKey();
    const folder = temporaryFolder();
    const options = ["enc", "-aes-128-cbc", "-K", key.toHex(), "-iv", iv.toHex()];
    for (const size_bytes of [0, 1, 15, 16, 17, 1000, 1_000_000]) {
      const plaintext = Uint8Array.from({ length: size_bytes }, (_, i) => i * 31);
      const ciphertext = encryptAES(plaintext, key, iv);
      assert.deepEqual(openssl(folder, options, plaintext), ciphertext);
      assert.deepEqual(openssl(folder, [...options, "-d"], ciphertext), plaintext);
      assert.deepEqual(decryptAES(ciphertext, key, iv), plaintext);
    }
  },
);

test("all that can be wrong with a ciphertext gives one error with one sentence", () => {
  const { key, iv } = generateAESKey();
  const sentences = new Set<string>();
  const badPadding = encryptAES(new Uint8Array(16), key, iv).subarray(0, 16);
  for (
    const ciphertext of [new Uint8Array(0), new Uint8Array(15), new Uint8Array(17), badPadding]
  ) {
    assert.throws(() => decryptAES(ciphertext, key, iv), (error: Error & { code?: string }) => {
      sentences.add(error.message);
      return error.code === "decrypt_failed";
    });
  }
  assert.equal(sentences.size, 1);
});

test("keys are fresh, and a key file is the key and then the IV", () => {
  const first = generateAESKey();
  assert.deepEqual([first.key.length, first.iv.length], [16, 16]);
  assert.notDeepEqual(first.key, generateAESKey().key);
  const path = join(temporaryFolder(), "aes_key.bin");
  writeKeyFile(path, SECRET);
  const { bytes, aesKey, made, warnings } = loadKeyFile(path);
  assert.deepEqual(bytes, SECRET);
  assert.deepEqual([aesKey.key, aesKey.iv], [SECRET.subarray(0, 16), SECRET.subarray(16)]);
  assert.deepEqual([made, warnings], [false, []]);
});

test("a missing key file is made with mode 0600, once, and nothing else is left in its folder", () => {
  const folder = temporaryFolder();
  const path = join(folder, "aes_key.bin");
  assert.throws(() => loadKeyFile(path), { code: "key_missing" });
  const made = loadOrMakeKeyFile(path);
  assert.equal(made.made, true);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(new Uint8Array(readFileSync(path)), made.bytes);
  const again = loadOrMakeKeyFile(path);
  assert.deepEqual([again.made, again.bytes], [false, made.bytes]);
  assert.deepEqual(readdirSync(folder), ["aes_key.bin"]);
});

test("an existing key file is never overwritten", () => {
  const path = join(temporaryFolder(), "aes_key.bin");
  writeKeyFile(path, SECRET);
  assert.throws(() => writeKeyFile(path, new Uint8Array(32)), { code: "key_exists" });
  assert.deepEqual(loadKeyFile(path).bytes, SECRET);
});

test("a key file of the wrong length is refused with the length found, and left as it is", () => {
  const path = join(temporaryFolder(), "aes_key.bin");
  for (const size_bytes of [0, 16, 31, 33, 48, 100_000]) {
    writeFileSync(path, new Uint8Array(size_bytes), { mode: 0o600 });
    for (const load of [loadKeyFile, loadOrMakeKeyFile]) {
      assert.throws(() => load(path), {
        code: "key_unreadable",
        message: new RegExp(`has ${size_bytes} bytes.* exactly 32$`),
      });
    }
    assert.equal(statSync(path).size, size_bytes);
  }
});

test("a key file that others may read loads with a warning that says what to do", () => {
  const path = join(temporaryFolder(), "aes_key.bin");
  writeKeyFile(path, SECRET);
  for (const mode of [0o640, 0o604, 0o644, 0o620]) {
    chmodSync(path, mode);
    const { bytes, warnings } = loadKeyFile(path);
    assert.deepEqual(bytes, SECRET);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, new RegExp(`${mode.toString(8)}.*chmod 600`));
  }
});

test("a folder in place of the key file, and a folder that is not there, are said plainly", () => {
  const folder = temporaryFolder();
  assert.throws(() => loadKeyFile(folder), { code: "key_unreadable" });
  const path = join(folder, "absent", "aes_key.bin");
  assert.throws(() => loadOrMakeKeyFile(path), { code: "key_unwritable" });
  assert.equal(existsSync(path), false);
});

test(
  "servers started at once end up with one key, which one of them made",
  { timeout: 60_000 },
  async () => {
    const folder = temporaryFolder();
    const path = join(folder, "aes_key.bin");
    const script = join(folder, "start.ts");
    const module = new URL("../lib/aes_utils.ts", import.meta.url).href;
    const start_at_ms = Date.now() + 1_500;
    // All wait for the same moment, so that they really meet.
    writeFileSync(
      script,
      `import { loadOrMakeKeyFile } from ${JSON.stringify(module)};
     while (Date.now() < ${start_at_ms});
     const { bytes, made } = loadOrMakeKeyFile(${JSON.stringify(path)});
     console.log(JSON.stringify({ made, key: bytes.toHex() }));`,
    );
    const outputs = await Promise.all(Array.from({ length: 6 }, () => outputOf(script)));
    const results = outputs.map((output) => JSON.parse(output) as { made: boolean; key: string });
    assert.equal(results.filter((result) => result.made).length, 1);
    assert.deepEqual(new Set(results.map((result) => result.key)).size, 1);
    assert.deepEqual(new Uint8Array(readFileSync(path)), hex(results[0]!.key));
    assert.deepEqual(readdirSync(folder).sort(), ["aes_key.bin", "start.ts"]);
  },
);

function outputOf(script: string): Promise<string> {
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  // The script lies outside of the project, whose dependencies it needs.
  const args = RUNTIME === "deno"
    ? ["run", "-A", "--no-check", "--config", join(cwd, "deno.json"), script]
    : [script];
  const child = spawn(process.execPath, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve, reject) => {
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
    child.on("error", reject);
    child.on("close", () => resolve(output));
  });
}
