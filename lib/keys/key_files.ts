/**
 * Loads and makes RSA key pairs as PEM files: `<owner>_private.pem` and `<owner>_public.pem` in the
 * keys folder. A file that exists is used as it is, also one that `openssl genpkey`,
 * `openssl genrsa` or `openssl rsa -pubout` made.
 *
 * The private file decides, and the public one is derived from it. So two processes that start at
 * the same time on an empty folder end up with the same pair.
 */
import { createPrivateKey, generateKeyPair, type KeyObject } from "node:crypto";
import { rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import {
  createFileAtomic,
  isOpenToOthers,
  makeFolder,
  PRIVATE_FILE_MODE,
  PUBLIC_FILE_MODE,
  readTextFile,
} from "../base/files.ts";
import {
  type AccountName,
  RSA_BITS_MIN,
  type RsaKeyPair,
  type RsaPublicKey,
  rsaPublicKeyFromPem,
  rsaPublicKeyOf,
} from "./rsa.ts";

/** A key of 4096 bits takes 3.3 kB, a certificate below its printed text some 10 kB. */
const KEY_FILE_BYTES_MAX = 65_536;
const PRIVATE_KEY_KINDS: ReadonlySet<string> = new Set(["rsa", "ec", "ed25519"]);

/** What a person should know about the files that were read. A sentence each. */
export type Warnings = string[];

/**
 * Loads the server's public key from a file. It is all that `verify` needs.
 *
 * @throws {SealwireError} `key_missing`, `key_unreadable`, `bad_key`.
 */
export function loadServerPublicKey(path: string): RsaPublicKey {
  const pem = readKeyFile(path);
  if (pem === null) throw new SealwireError("key_missing", `there is no ${path}`);
  return publicKeyOfFile(path, pem);
}

/**
 * Loads the keys of an account.
 *
 * @throws {SealwireError} `key_missing`, `key_unreadable`, `bad_key`, `key_mismatch`.
 */
export async function loadAccountKeys(
  folder: string,
  name: AccountName,
): Promise<RsaKeyPair & { warnings: Warnings }> {
  const { pair, warnings } = await openPair(folder, name, { makeMissing: false });
  return { ...pair, warnings };
}

/**
 * Loads the keys of an account, and makes those that are missing. `made`: the private key is new.
 *
 * @throws {SealwireError} `key_missing` where there is only a public key; `key_unreadable`,
 * `bad_key`, `key_mismatch`, `folder_unwritable`.
 */
export async function loadOrMakeAccountKeys(
  folder: string,
  name: AccountName,
): Promise<{ pair: RsaKeyPair; made: boolean; warnings: Warnings }> {
  const { pair, made, warnings } = await openPair(folder, name, { makeMissing: true });
  return { pair, made: made.includes(pairPaths(folder, name).private), warnings };
}

/** Removes the keys of an account that was never made. What is not there is no matter. */
export function removeAccountKeys(folder: string, name: AccountName): void {
  for (const path of Object.values(pairPaths(folder, name))) rmSync(path, { force: true });
}

/**
 * Opens the pair of `owner`, an account or `server`. `made` lists the paths of new files. `generation`: another pair than the
 * current one.
 */
export async function openPair(
  folder: string,
  owner: string,
  options: { makeMissing: boolean; generation?: string },
): Promise<{ pair: RsaKeyPair; made: string[]; warnings: Warnings }> {
  const paths = pairPaths(folder, owner, options.generation);
  const made: string[] = [];
  const warnings: Warnings = [];
  if (options.makeMissing && readKeyFile(paths.private) === null) {
    await makePrivateKey(paths, made);
  }
  const privateKey = loadPrivateKey(paths.private, warnings);
  if (privateKey === null) throw new SealwireError("key_missing", `there is no ${paths.private}`);
  const publicKey = namingFile(paths.private, () => rsaPublicKeyOf(privateKey));
  if (options.makeMissing && readKeyFile(paths.public) === null) {
    const pem = publicKey.key.export({ type: "spki", format: "pem" }) as string;
    createKeyFile(paths.public, pem, PUBLIC_FILE_MODE, made);
  }
  requireFittingPublicKey(paths, publicKey);
  return { pair: { publicKey, privateKey }, made, warnings };
}

async function makePrivateKey(paths: PairPaths, made: string[]): Promise<void> {
  const publicIsThere = readKeyFile(paths.public) !== null;
  // Another process may have made both files since the first look, so this looks again.
  if (publicIsThere && readKeyFile(paths.private) === null) {
    throw new SealwireError(
      "key_missing",
      `${paths.public} is there, but its private key ${paths.private} is not: ` +
        "put it back, or move the public key away to start with new keys",
    );
  }
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: RSA_BITS_MIN });
  createKeyFile(paths.private, privateKeyPem(privateKey), PRIVATE_FILE_MODE, made);
}

function requireFittingPublicKey(paths: PairPaths, publicKey: RsaPublicKey): void {
  const pem = readKeyFile(paths.public);
  if (pem === null) return;
  if (publicKeyOfFile(paths.public, pem).thumbprint === publicKey.thumbprint) return;
  throw new SealwireError(
    "key_mismatch",
    `${paths.public} does not belong to ${paths.private}: put back the one that does, ` +
      "or move the public key away and it is made from the private one",
  );
}

interface PairPaths {
  readonly private: string;
  readonly public: string;
}

export function pairPaths(folder: string, owner: string, generation?: string): PairPaths {
  const suffix = generation === undefined ? "" : `_${generation}`;
  return {
    private: join(folder, `${owner}_private${suffix}.pem`),
    public: join(folder, `${owner}_public${suffix}.pem`),
  };
}

/**
 * Loads a private key. Returns null where the file is missing. Adds a warning where others can read
 * the file.
 */
export function loadPrivateKey(path: string, warnings: Warnings): KeyObject | null {
  const pem = readKeyFile(path);
  if (pem === null) return null;
  if (pem.includes("ENCRYPTED")) {
    throw new SealwireError(
      "key_unreadable",
      `${path} is locked with a passphrase: unlock it with ` +
        `"openssl pkey -in ${path} -out unlocked.pem" and put that in its place`,
    );
  }
  if (isOpenToOthers(statSync(path))) {
    warnings.push(`other users can read ${path}: chmod 600 ${path}`);
  }
  const key = parsePrivateKey(path, pem);
  if (key.asymmetricKeyType === "rsa") {
    requireSoundRsaKey(path, key);
  }
  return key;
}

function requireSoundRsaKey(path: string, key: KeyObject): void {
  namingFile(path, () => rsaPublicKeyOf(key));
}

function parsePrivateKey(path: string, pem: string): KeyObject {
  let cause: unknown;
  try {
    const key = createPrivateKey(pem);
    // Deno reads other kinds, such as RSA-PSS, and Bun does not.
    if (PRIVATE_KEY_KINDS.has(key.asymmetricKeyType ?? "")) return key;
  } catch (error) {
    cause = error;
  }
  throw new SealwireError(
    "key_unreadable",
    `${path} holds no PEM private key of the kinds RSA, EC or Ed25519`,
    { cause },
  );
}

function publicKeyOfFile(path: string, pem: string): RsaPublicKey {
  if (!pem.includes("-----BEGIN ")) {
    throw new SealwireError("key_unreadable", `${path} holds no PEM public key`);
  }
  return namingFile(path, () => rsaPublicKeyFromPem(pem));
}

export function readKeyFile(path: string): string | null {
  return readTextFile(path, { size_bytes_max: KEY_FILE_BYTES_MAX, code: "key_unreadable" });
}

/** Makes the file and adds it to `made`, unless another process has just made it. */
export function createKeyFile(path: string, pem: string, mode: number, made: string[]): void {
  makeFolder(dirname(path));
  if (createFileAtomic(path, pem, mode)) made.push(path);
}

export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }) as string;
}

/** Runs `parse`. An error that it throws names the file. */
export function namingFile<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    throw new SealwireError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}
