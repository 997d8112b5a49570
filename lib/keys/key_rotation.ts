/**
 * The files of an account whose key is replaced. `<name>_private_next.pem` is a key that is on its way: it is on disk before
 * the server hears of it, and stays until the server says which key is current. `<name>_private_<n>.pem` are the keys before,
 * which only open old memos.
 */
import type { KeyObject } from "node:crypto";
import { readdirSync, renameSync } from "node:fs";
import { systemErrorCode } from "../base/errors.ts";
import { createFileAtomic, PRIVATE_FILE_MODE, removeIfThere, syncFolder } from "../base/files.ts";
import { loadPrivateKey, openPair, pairPaths, readKeyFile } from "./key_files.ts";
import type { AccountName, RsaKeyPair } from "./rsa.ts";

const NEXT = "next";

/** The key that is on its way; made and synced when there is none. Throws as `openPair` does. */
export async function openNextPair(folder: string, name: AccountName): Promise<RsaKeyPair> {
  const { pair } = await openPair(folder, name, { makeMissing: true, generation: NEXT });
  return pair;
}

export function hasNextPair(folder: string, name: AccountName): boolean {
  return readKeyFile(pairPaths(folder, name, NEXT).private) !== null;
}

/**
 * Makes the key that was on its way the account's own, and keeps the old one. May be run again after a crash at any point.
 *
 * @throws {SealwireError} `folder_unwritable`, `write_failed`.
 */
export function adoptNextPair(folder: string, name: AccountName): void {
  const current = pairPaths(folder, name);
  const next = pairPaths(folder, name, NEXT);
  keepOld(folder, name, readKeyFile(current.private)!);
  // A public key that does not fit would be an error; one that is missing is made again.
  removeIfThere(current.public);
  const publicPem = readKeyFile(next.public);
  renameSync(next.private, current.private);
  if (publicPem !== null) renameSync(next.public, current.public);
  syncFolder(folder);
}

function keepOld(folder: string, name: AccountName, pem: string): void {
  const generations = oldGenerations(folder, name);
  const newest = generations[0];
  const isKept = newest !== undefined &&
    readKeyFile(pairPaths(folder, name, String(newest)).private) === pem;
  if (isKept) return;
  let generation = (newest ?? 0) + 1;
  while (
    !createFileAtomic(pairPaths(folder, name, String(generation)).private, pem, PRIVATE_FILE_MODE)
  ) generation++;
}

/** The keys that the account had before, the newest first. Throws as `loadPrivateKey` does. */
export function loadOldKeys(folder: string, name: AccountName): KeyObject[] {
  return oldGenerations(folder, name).flatMap((generation) =>
    loadPrivateKey(pairPaths(folder, name, String(generation)).private, []) ?? []
  );
}

/** The newest first. */
function oldGenerations(folder: string, name: AccountName): number[] {
  try {
    const prefix = `${name}_private_`;
    const numbers = readdirSync(folder).flatMap((file) => {
      const match = file.startsWith(prefix) &&
        /^([1-9]\d{0,5})\.pem$/.exec(file.slice(prefix.length));
      return match ? Number(match[1]) : [];
    });
    return numbers.sort((one, other) => other - one);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
}
