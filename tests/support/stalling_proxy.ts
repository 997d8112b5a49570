/**
 * A way to a server on which a client can stop reading: node:tls alone reads on in Deno, paused or
 * not.
 */
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

const HOST = "127.0.0.1";

export class StallingProxy {
  private readonly towardsServer = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  static async start(port: number): Promise<StallingProxy> {
    const server = net.createServer();
    const proxy = new StallingProxy(server);
    server.on("connection", (client: Socket) => proxy.join(client, net.connect(port, HOST)));
    server.listen(0, HOST);
    await once(server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Takes nothing more from the server. */
  stall(): void {
    for (const socket of this.towardsServer) socket.pause();
  }

  resume(): void {
    for (const socket of this.towardsServer) socket.resume();
  }

  close(): void {
    for (const socket of this.towardsServer) socket.destroy();
    this.server.close();
  }

  private join(client: Socket, server: Socket): void {
    this.towardsServer.add(server);
    client.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => client.write(bytes));
    for (const [socket, other] of [[client, server], [server, client]] as const) {
      socket.on("error", () => other.destroy());
      socket.on("close", () => other.destroy());
      socket.on("end", () => other.end());
    }
  }
}
