/**
 * A long line to a server: a proxy on which every byte takes as long as on the way around the world,
 * and so many come a second. It counts how many were under way at once.
 */
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

const HOST = "127.0.0.1";
/** How much waits at the start of the line before the sender is held back, as in a router. */
const QUEUE_MS = 20;

export interface LongLineOptions {
  readonly round_trip_ms: number;
  readonly bytes_per_s: number;
}

export class LongLine {
  /** The most bytes that were on the way to the server at once. */
  to_server_bytes_max = 0;
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server, private readonly options: LongLineOptions) {}

  static async start(server_port: number, options: LongLineOptions): Promise<LongLine> {
    const server = net.createServer();
    const line = new LongLine(server, options);
    server.on("connection", (client: Socket) => {
      const onward = net.connect(server_port, HOST);
      line.join(client, onward, (bytes) => {
        line.to_server_bytes_max = Math.max(line.to_server_bytes_max, bytes);
      });
      line.join(onward, client, () => {});
    });
    server.listen(0, HOST);
    await once(server, "listening");
    return line;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private join(from: Socket, to: Socket, onCarrying: (bytes: number) => void): void {
    const { round_trip_ms, bytes_per_s } = this.options;
    const carried: { bytes: Uint8Array | null; due_ms: number }[] = [];
    let carried_bytes = 0;
    let free_at_ms = 0;
    const deliver = () => {
      while (carried[0] && carried[0].due_ms <= performance.now()) {
        const { bytes } = carried.shift()!;
        carried_bytes -= bytes?.length ?? 0;
        if (bytes) to.write(bytes);
        else to.end();
      }
      if (carried[0]) setTimeout(deliver, Math.max(carried[0].due_ms - performance.now(), 1));
    };
    // What is carried leaves in order, whatever the order of timers is.
    const carry = (bytes: Uint8Array | null) => {
      const size_bytes = bytes?.length ?? 0;
      free_at_ms = Math.max(free_at_ms, performance.now()) + size_bytes / bytes_per_s * 1000;
      carried_bytes += size_bytes;
      onCarrying(carried_bytes);
      carried.push({ bytes, due_ms: free_at_ms + round_trip_ms / 2 });
      if (carried.length === 1) setTimeout(deliver, round_trip_ms / 2);
    };
    this.sockets.add(from);
    from.setNoDelay(true);
    from.on("data", (bytes) => {
      carry(bytes);
      const waiting_ms = free_at_ms - performance.now();
      if (waiting_ms < QUEUE_MS) return;
      from.pause();
      setTimeout(() => from.resume(), waiting_ms - QUEUE_MS / 2);
    });
    from.on("end", () => carry(null));
    from.on("error", () => to.destroy());
    from.on("close", () => this.sockets.delete(from));
  }
}
