/** A way to PostgreSQL that is cut at a chosen step of a commit. */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

/** The simple query "COMMIT" (PostgreSQL documentation, 54.7: Q, length, text). */
const COMMIT = Buffer.from("Q\0\0\0\x0bCOMMIT\0", "latin1");

export type Cut =
  | "never"
  /** COMMIT does not arrive. */
  | "before COMMIT"
  /** COMMIT arrives, and its answer does not. */
  | "after COMMIT";

export class CuttingProxy {
  /** The next time, once. */
  cut: Cut = "never";
  /** How often it has been cut. */
  cuts = 0;
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  static async start(port: number): Promise<CuttingProxy> {
    const server = createServer();
    const proxy = new CuttingProxy(server);
    server.on("connection", (client: Socket) => proxy.join(client, connect(port, "127.0.0.1")));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private join(client: Socket, database: Socket): void {
    let isMute = false;
    client.on("data", (bytes: Buffer) => {
      if (this.cut === "never" || !bytes.includes(COMMIT)) return void database.write(bytes);
      this.cuts++;
      const { cut } = this;
      this.cut = "never";
      if (cut === "before COMMIT") return client.destroy();
      isMute = true;
      database.write(bytes);
    });
    database.on("data", (bytes: Buffer) => {
      if (isMute) client.destroy();
      else client.write(bytes);
    });
    for (const [socket, other] of [[client, database], [database, client]] as const) {
      this.sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
