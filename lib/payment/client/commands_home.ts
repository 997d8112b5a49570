/**
 * Where a command acts: its server, account and keys folder; and the commands that show and choose
 * them.
 */
import { isIP } from "node:net";
import { parsePort, parseTimeoutMs, usageError } from "../../cli/arguments.ts";
import { askLine } from "../../cli/line_prompt.ts";
import type { Output } from "../../cli/output.ts";
import type { Surroundings } from "../../cli/tool.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import { P2P_PORT_MIN } from "../../protocol/wire.ts";
import { type Address, parseAddresses } from "./commands_addresses.ts";
import { type CommandContext, withClient } from "./commands_context.ts";
import type { ConnectionValues, ListenValues } from "./commands_table.ts";
import { accountsIn, Home, keysFolderOf } from "./home.ts";

/** What any command that reaches a server is given. */
export interface ServerRun extends Surroundings {
  readonly args: { readonly host?: string | undefined; readonly port?: string | undefined };
  readonly values: ConnectionValues & Partial<ListenValues>;
  /** The prompt's own, for what is typed there. */
  readonly context?: CommandContext;
}

/** Throws `usage`, and `memory_unreadable` for what is remembered. */
export function contextOf(
  { args, values, out, interrupted, context }: ServerRun,
): CommandContext {
  if (context !== undefined) return context;
  const p2pHost = values["p2p-host"] ?? null;
  if (p2pHost !== null && isIP(p2pHost) === 0) {
    throw usageError(`--p2p-host takes an IP address, not "${p2pHost}"`);
  }
  const p2pPort = values["p2p-port"] ?? "0";
  const keysFolder = keysFolderOf(values.keys);
  const [address, ...otherAddresses] = addressesOf(args, keysFolder);
  return {
    ...address,
    otherAddresses,
    keysFolder,
    serverCertPath: values["server-cert"] ?? null,
    acceptNew: values["accept-new"],
    timeout_ms: parseTimeoutMs(values.timeout),
    p2pHost,
    p2pPort: p2pPort === "0" ? 0 : parsePort("--p2p-port", p2pPort, P2P_PORT_MIN),
    out,
    interrupted,
    ask: (question) => askLine(question, interrupted),
    aside: (print) => print(),
    live: null,
  };
}

function addressesOf(
  { host, port }: ServerRun["args"],
  keysFolder: string,
): [Address, ...Address[]] {
  if (host !== undefined) return parseAddresses(host, port ?? "");
  const { server } = new Home(keysFolder).chosen;
  if (server !== null) return [server];
  throw usageError(
    `${keysFolder} knows no server yet: put <host> <port> before the command, ` +
      "or choose one by: client.ts use <host> <port>",
  );
}

/** The account that acts: `--as`, else the one in use. Throws `usage`, `bad_name`. */
export function accountOf(
  { as, keys }: { readonly as?: string | undefined; readonly keys?: string | undefined },
): AccountName {
  if (as !== undefined) return parseAccountName(as);
  const keysFolder = keysFolderOf(keys);
  const { account } = new Home(keysFolder).chosen;
  if (account !== null) return account;
  throw usageError(
    `--as NAME is missing: ${keysFolder} knows no account in use; register one, ` +
      "or choose one by: client.ts use <account>",
  );
}

/** The account in use, or the one of `--as`; null where there is none. */
export function accountInUse(values: Parameters<typeof accountOf>[0]): AccountName | null {
  if (values.as !== undefined) return parseAccountName(values.as);
  return new Home(keysFolderOf(values.keys)).chosen.account;
}

/**
 * `use <account>` or `use <host> <port>`: what commands take from now on.
 *
 * @throws {SealwireError} `usage` for an account whose keys are not there.
 */
export function use(
  out: Output,
  keysFolder: string,
  nameOrHost: string,
  port: string | undefined,
): void {
  const home = new Home(keysFolder);
  if (port !== undefined) {
    home.choose({ server: { host: nameOrHost, port: parsePort("[port]", port, 1) } });
  } else {
    const account = parseAccountName(nameOrHost);
    const accounts = accountsIn(keysFolder);
    if (!accounts.includes(account)) {
      const known = accounts.length > 0 ? `: it has those of ${accounts.join(", ")}` : "";
      throw usageError(`${keysFolder} has no keys of ${account}${known}`);
    }
    home.choose({ account });
  }
  const { server, account } = home.chosen;
  const address = server === null ? "no server" : formatAddress(server.host, server.port);
  out.result(
    { account, server: server === null ? null : address },
    `from now on: ${account ?? "no account"} at ${address}`,
  );
}

/** Shows who acts, where, and with what. */
export async function whoami(context: CommandContext, account: AccountName): Promise<void> {
  const { out, host, port, keysFolder } = context;
  await withClient(context, account, async (client, { pair }) => {
    const balance = await client.session.currentBalance();
    const { thumbprint: fingerprint } = pair.publicKey;
    const server = formatAddress(host, port);
    const server_fingerprint = client.session.server.thumbprint;
    out.result(
      { account, fingerprint, server, server_fingerprint, balance, keys: keysFolder },
      [
        `account      ${account}`,
        `fingerprint  ${fingerprint}`,
        `balance      ${balance}`,
        `server       ${server}`,
        `its key      ${server_fingerprint}`,
        `keys         ${keysFolder}`,
      ].join("\n"),
    );
  });
}
