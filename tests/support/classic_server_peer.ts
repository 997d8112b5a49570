/** The C++ server as far as its bytes go, written from docs/protocol/classic.md alone: one read is one message. */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import tls from "node:tls";

interface PeerAccount {
  balance: number;
  online: { readonly ip: string; readonly port: number } | null;
}

export class ClassicServerPeer {
  readonly accounts = new Map<string, PeerAccount>();
  /** Every message, in the order in which it came. */
  readonly messages: string[] = [];
  private readonly server: tls.Server;
  private readonly sockets = new Set<tls.TLSSocket>();

  private constructor(certPath: string, keyPath: string) {
    this.server = tls.createServer({ cert: readFileSync(certPath), key: readFileSync(keyPath) });
    this.server.on("secureConnection", (socket) => this.serve(socket));
  }

  static async start(certPath: string, keyPath: string): Promise<ClassicServerPeer> {
    const peer = new ClassicServerPeer(certPath, keyPath);
    peer.server.listen(0, "127.0.0.1");
    await once(peer.server, "listening");
    return peer;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private serve(socket: tls.TLSSocket): void {
    this.sockets.add(socket);
    const session = { name: null as string | null };
    const leave = () => {
      const account = this.accounts.get(session.name ?? "");
      if (account) account.online = null;
      session.name = null;
    };
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", leave);
    socket.on("data", (bytes: Uint8Array) => {
      const message = Buffer.from(bytes).toString("latin1");
      this.messages.push(message);
      if (message !== "Exit") return void socket.write(this.answer(session, message, socket));
      leave();
      socket.end("Bye\r\n");
    });
  }

  private answer(session: { name: string | null }, message: string, socket: tls.TLSSocket): string {
    const fields = message.split("#");
    if (fields[0] === "REGISTER") return this.register(fields[1]!);
    if (message === "List") {
      return session.name === null ? "Please Login First\r\n" : this.list(session.name);
    }
    if (fields.length === 2) {
      const account = this.accounts.get(fields[0]!);
      if (!account || account.online) return "220 AUTH_FAIL\r\n\0";
      const port = Number(fields[1]);
      if (port < 1024 || port > 65535) return "Invalid port range.\r\n";
      account.online = { ip: socket.remoteAddress!.replace("::ffff:", ""), port };
      session.name = fields[0]!;
      return this.list(session.name);
    }
    if (fields.length === 3) return this.pay(fields[0]!, Number(fields[1]), fields[2]!);
    return "Invalid command format.\r\n";
  }

  private register(name: string): string {
    if (this.accounts.has(name)) return "210 FAIL\r\n";
    this.accounts.set(name, { balance: 10_000, online: null });
    return "100 OK\r\n";
  }

  private list(name: string): string {
    const online = [...this.accounts].filter(([, account]) => account.online);
    const rows = online.map(([name, { online }]) => `${name}#${online!.ip}#${online!.port}\r\n`);
    const { balance } = this.accounts.get(name)!;
    return `${balance}\ncHVibGljIGtleQ==\r\n${rows.length}\n${rows.join("")}`;
  }

  private pay(payer: string, amount: number, payee: string): string {
    const [from, to] = [this.accounts.get(payer), this.accounts.get(payee)];
    if (!from?.online) return "Sender not logged in.\r\n";
    if (!to) return "Recipient not found.\r\n\0";
    if (from.balance < amount) return "Insufficient balance.\r\n\0";
    from.balance -= amount;
    to.balance += amount;
    return `Transfer Successful: ${amount} from ${payer} to ${payee}.\r\n`;
  }
}
