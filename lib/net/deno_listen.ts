/**
 * Listens with Deno's own TCP listener. Bulk data arrives twice as fast as through node:net on
 * Deno, and takes a quarter of the memory.
 */
import { pause } from "../base/retry.ts";
import {
  type ConnectionHandler,
  CONNECTIONS_MAX_DEFAULT,
  type Listener,
  listenError,
  type ListenTcpOptions,
  makeAdmission,
  plainHost,
} from "./connection.ts";
import { DenoConnection } from "./deno_stream.ts";

/** The pause after an accept that failed for lack of file descriptors or memory. */
const ACCEPT_PAUSE_MS = 50;

export function listenTcpDeno(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Listener {
  const listener = listen(options);
  const { connections_max = CONNECTIONS_MAX_DEFAULT, onNotice } = options;
  const { admission, close: closeNotices } = makeAdmission(connections_max, onNotice);
  const live = new Set<DenoConnection>();
  const accepting = acceptEach(listener, (conn) => {
    const place = admission.enter(plainHost(conn.remoteAddr.hostname), () => connection.destroy());
    if (place === null) return conn.close();
    conn.setNoDelay(true);
    const connection = new DenoConnection(conn, () => {
      live.delete(connection);
      place.leave();
    });
    live.add(connection);
    onConnection(connection, place);
  });
  const { hostname, port } = listener.addr as Deno.NetAddr;
  return {
    host: hostname,
    port,
    close: () => {
      listener.close();
      closeNotices();
      for (const connection of live) connection.destroy();
      // The port is free when the accept loop has ended.
      return accepting;
    },
  };
}

function listen({ host, port }: ListenTcpOptions): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: host, port });
  } catch (error) {
    throw listenError(error, host, port);
  }
}

/** Accepts until the listener is closed. */
async function acceptEach(
  listener: Deno.TcpListener,
  receive: (conn: Deno.TcpConn) => void,
): Promise<void> {
  while (true) {
    let conn;
    try {
      conn = await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return;
      await pause(ACCEPT_PAUSE_MS);
      continue;
    }
    receive(conn);
  }
}
