/**
 * The sessions of a client, one at a time: each at the first address that answers, of a ledger that
 * may have several servers.
 */
import { isWorthRetrying, SealwireError } from "../../base/errors.ts";
import { formatAddress } from "../../net/net.ts";
import { ClientSession, type LoginOptions, type SessionOptions } from "./session.ts";

export interface SessionsOptions extends SessionOptions {
  /** Other servers on the same ledger, for when one does not answer. They share the timeout. */
  readonly otherAddresses?: readonly { readonly host: string; readonly port: number }[];
}

export class Sessions {
  private session!: ClientSession;
  private readonly addresses: readonly { readonly host: string; readonly port: number }[];
  /** The address in use. */
  private addressAt = 0;
  private connecting: Promise<void> | null = null;

  constructor(private readonly options: SessionsOptions, private readonly login: LoginOptions) {
    const { host, port, otherAddresses = [] } = options;
    this.addresses = [{ host, port }, ...otherAddresses];
  }

  /** Connects and logs in. Throws what {@linkcode ClientSession.open} throws. */
  async open(): Promise<void> {
    await this.connect(this.login);
  }

  get current(): ClientSession {
    return this.session;
  }

  /**
   * A new session in place of `lost`, unless there is one already; those who ask meanwhile get the
   * same one. `lost` is closed first, because the server would see a second listener in the new
   * one, and displace the first.
   */
  replace(lost: ClientSession): Promise<void> {
    if (lost !== this.session) return Promise.resolve();
    lost.destroy();
    if (this.connecting === null) this.useNextAddress();
    this.connecting ??= this.connect({ ...this.login, register: false })
      .finally(() => this.connecting = null);
    return this.connecting;
  }

  /** Asks what changes nothing; at the other addresses too, where there are any and the connection is lost. */
  async ask<T>(question: (session: ClientSession) => Promise<T>): Promise<T> {
    for (let tries = 1;; tries++) {
      const { session } = this;
      try {
        return await question(session);
      } catch (error) {
        if (tries === this.addresses.length || !isWorthRetrying(error)) throw error;
        await this.replace(session);
      }
    }
  }

  /** At the address in use, or at the next that answers. */
  private async connect(login: LoginOptions): Promise<void> {
    const { addresses } = this;
    const timeout_ms = Math.ceil(this.options.timeout_ms / addresses.length);
    for (let tries = 1;; tries++) {
      const options = { ...this.options, ...addresses[this.addressAt]!, timeout_ms };
      try {
        const session = await ClientSession.open(options, login);
        this.requireSameServer(session);
        this.session = session;
        return;
      } catch (error) {
        if (tries === addresses.length || !isWorthRetrying(error)) throw error;
        this.useNextAddress();
      }
    }
  }

  private useNextAddress(): void {
    this.addressAt = (this.addressAt + 1) % this.addresses.length;
  }

  /** Another server knows nothing of the orders that wait here, and could not cancel them. */
  private requireSameServer(session: ClientSession): void {
    const before: ClientSession | undefined = this.session;
    if (before === undefined || before.server.thumbprint === session.server.thumbprint) return;
    session.destroy();
    const { host, port } = this.addresses[this.addressAt]!;
    throw new SealwireError(
      "server_changed",
      `${formatAddress(host, port)} is another server than the one at the other addresses`,
    );
  }
}
