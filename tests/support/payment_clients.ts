/**
 * Payment clients inside the test's own process, for the server of a {@linkcode PaymentWorld}: many
 * of them, and cheap. All accounts that they make share one RSA key pair, because each pair costs
 * 0.2 s.
 */
import { loadAccountKeys } from "../../lib/keys/key_files.ts";
import { type AccountName, parseAccountName } from "../../lib/keys/rsa.ts";
import { makeSessionKey, type SessionKeyPair } from "../../lib/protocol/delegation.ts";
import type { PaymentClientOptions } from "../../lib/payment/client/payer.ts";
import { ClientSession, type LoginOptions } from "../../lib/payment/client/session.ts";
import { now_s, rsaPair } from "./fixtures.ts";
import type { PaymentWorld } from "./payment_world.ts";

const sessionKeys = new Map<string, SessionKeyPair>();

/** The session key of an account of this process, the same each time. */
export function sessionKeyOf(name: string): SessionKeyPair {
  const key = sessionKeys.get(name) ?? makeSessionKey();
  sessionKeys.set(name, key);
  return key;
}

/** Options of a client of `name`, who trusts the server and asks nobody. */
export function clientOptions(
  world: Pick<PaymentWorld, "port" | "keysOf">,
  name: string,
  changed: Partial<PaymentClientOptions> = {},
): PaymentClientOptions {
  return {
    host: "127.0.0.1",
    port: world.port,
    keysFolder: world.keysOf(name),
    serverCertPath: null,
    account: parseAccountName(name),
    pair: changed.pair ?? rsaPair("everyone"),
    oldKeys: [],
    timeout_ms: 30_000,
    signal: new AbortController().signal,
    notices: { note: () => {}, warn: () => {} },
    confirmServer: () => Promise.resolve(false),
    remark: () => {},
    alarm: () => {},
    confirmPayees: null,
    now_s,
    confirmKeyChange: () => Promise.resolve(false),
    ...changed,
  };
}

/** A session of `name`, an account of this process. */
export function openSession(
  world: PaymentWorld,
  name: string,
  login: LoginOptions = {},
): Promise<ClientSession> {
  const options = { ...clientOptions(world, name), sessionKey: sessionKeyOf(name) };
  return ClientSession.open(options, login);
}

/** A session of an account whose keys a client process has made. */
export async function openSessionOf(
  world: PaymentWorld,
  name: string,
  login: LoginOptions = {},
): Promise<ClientSession> {
  const pair = await loadAccountKeys(world.keysOf(name), name as AccountName);
  const options = { ...clientOptions(world, name, { pair }), sessionKey: makeSessionKey() };
  return await ClientSession.open(options, login);
}
