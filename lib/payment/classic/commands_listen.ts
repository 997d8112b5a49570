/** A classic account online: it takes offers, and prints each payment that arrives. */
import { untilAborted } from "../../base/abort.ts";
import type { KeyObject } from "node:crypto";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { printable } from "../../base/text.ts";
import { formatAmount } from "../../protocol/money.ts";
import { type CommandContext, serverOptions } from "../client/commands_context.ts";
import { ClassicSession } from "./client.ts";
import { decimal, listAll, noteKeysHere } from "./commands.ts";
import {
  type ClassicList,
  type ClassicRow,
  isTransferred,
  type WrittenName,
  type WrittenOrder,
} from "./format.ts";
import { openOfferPrivateKey } from "./offer.ts";
import { ClassicListener } from "./offer_listener.ts";

/** How often a listener looks whether the server still shows it. */
const PRESENCE_CHECK_MS = 5_000;

/** A classic account that is online and takes offers. */
export interface ClassicListening {
  readonly session: ClassicSession;
  readonly list: ClassicList;
  readonly port: number;
  /** Resolves when the server no longer shows this listener among those online. */
  readonly displaced: Promise<SealwireError>;
  close(): Promise<void>;
}

/** Takes offers until Ctrl-C. Throws when the session ends earlier. */
export async function listen(context: CommandContext, name: WrittenName): Promise<void> {
  const { out, interrupted } = context;
  const listening = await startListening(context, name);
  try {
    const account = name;
    const { port } = listening;
    out.result(
      { event: "online", account, port },
      `${printable(account)} is online and takes payments on port ${port}`,
    );
    const stop = untilAborted(interrupted);
    const ended = await Promise.race([listening.session.closed, listening.displaced, stop]);
    interrupted.throwIfAborted();
    if (ended) throw ended;
  } finally {
    await listening.close();
  }
}

/** Logs in and takes offers, printing each payment that arrives. */
export async function startListening(
  context: CommandContext,
  name: WrittenName,
): Promise<ClassicListening> {
  const { out, keysFolder, p2pPort } = context;
  noteKeysHere(context, "B_private.pem");
  const { privateKey, made, warnings } = await openOfferPrivateKey(keysFolder);
  for (const path of made) out.note(`made ${path}`);
  if (made.length > 0) out.note("payers need a copy of B_public.pem");
  for (const warning of warnings) out.warn(warning);
  const session = await ClassicSession.connect(serverOptions(context));
  try {
    const door = await openDoor(context, session, name, privateKey, p2pPort);
    const watch = new PresenceWatch(session, name, door.port);
    const close = async () => {
      watch.stop();
      await door.close();
      await session.exit();
    };
    try {
      const list = await session.login(name, door.port);
      watch.start(list);
      return { session, list, port: door.port, displaced: watch.displaced, close };
    } catch (error) {
      await door.close();
      throw error;
    }
  } catch (error) {
    await session.exit();
    throw error;
  }
}

/**
 * Notices that the server has logged a listener out, which it does not say: at a C++ server another
 * login of the same name does that, and so does its end.
 */
class PresenceWatch {
  readonly displaced: Promise<SealwireError>;
  private readonly resolve: (reason: SealwireError) => void;
  private timer: ReturnType<typeof setInterval> | null = null;

  constructor(
    private readonly session: ClassicSession,
    private readonly name: WrittenName,
    private readonly port: number,
  ) {
    const { promise, resolve } = Promise.withResolvers<SealwireError>();
    this.displaced = promise;
    this.resolve = resolve;
  }

  /** Only at a server whose list has this listener in it is its absence a sign. */
  start(list: ClassicList): void {
    if (this.isIn(list.rows)) this.timer = setInterval(() => this.look(), PRESENCE_CHECK_MS);
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  private async look(): Promise<void> {
    try {
      if (this.isIn(await listAll(this.session, await this.session.list()))) return;
    } catch (error) {
      // A connection that is lost is noticed elsewhere.
      if (!isSealwireError(error, "login_required")) return;
    }
    if (this.timer === null) return;
    this.stop();
    this.resolve(
      new SealwireError(
        "displaced",
        `the server no longer shows ${this.name} online: another client of this account has ` +
          "logged in or left. Start again to take payments",
      ),
    );
  }

  private isIn(rows: readonly ClassicRow[]): boolean {
    return rows.some(({ name, port }) => name === this.name && port === this.port);
  }
}

function openDoor(
  context: CommandContext,
  session: ClassicSession,
  name: WrittenName,
  privateKey: KeyObject,
  port: number,
): Promise<ClassicListener> {
  const { out, aside } = context;
  const note = (text: string) => aside(() => out.note(text));
  const relay = async (text: string, order: WrittenOrder) => {
    const answer = await session.order(text);
    if (isTransferred(answer)) {
      printPaid(context, session, order).catch((error) =>
        note(`cannot ask for the balance: ${printable(String(error))}`)
      );
    }
    return answer;
  };
  const onRefused = ({ message }: SealwireError) => note(`refused: ${printable(message)}`);
  return ClassicListener.start({ port, privateKey, name, relay, onRefused });
}

async function printPaid(
  { out, aside }: CommandContext,
  session: ClassicSession,
  { payer, amount: minor }: WrittenOrder,
): Promise<void> {
  const amount = formatAmount(minor);
  const balance = decimal(await session.list());
  const paid = { payment: null, payer, amount, memo: null, balance };
  const text = `${printable(payer)} paid you ${amount}; balance ${balance}`;
  aside(() => out.result({ event: "paid", ...paid }, text));
}
