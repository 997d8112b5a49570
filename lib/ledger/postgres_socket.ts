/**
 * The socket to PostgreSQL, with TLS where the target asks for it: the SSLRequest of the protocol (PostgreSQL
 * documentation, 54.2.11), then a handshake that verifies certificate and name.
 *
 * It is opened here and not by the driver for two reasons. A connection that hangs can be destroyed. And a database
 * without TLS is told apart from one whose certificate is wrong.
 */
import { Buffer } from "node:buffer";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { SealwireError } from "../base/errors.ts";
import { ConnectionLostError } from "./postgres_errors.ts";
import { describeTarget, type PostgresTarget } from "./postgres_url.ts";

/** Length 8, request code 80877103. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const ANSWER_TLS = "S".charCodeAt(0);

/**
 * Connected, and ready for the startup message.
 *
 * @throws {SealwireError} `store_unusable` when the database has no TLS. System and TLS errors as they come, and
 * ConnectionLostError when it takes longer than `timeout_ms`.
 */
export async function openPostgresSocket(
  target: PostgresTarget,
  timeout_ms: number,
): Promise<Socket> {
  const { socketPath, host, port, tls } = target;
  const socket = socketPath === null ? connect(port, host) : connect(socketPath);
  const timer = setTimeout(
    () => socket.destroy(new ConnectionLostError("no answer within the time allowed")),
    timeout_ms,
  );
  try {
    await settled(socket, "connect");
    socket.setNoDelay(true);
    return tls === null ? socket : await secure(socket, target, tls.ca);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function secure(
  socket: Socket,
  target: PostgresTarget,
  ca: string | undefined,
): Promise<Socket> {
  socket.write(SSL_REQUEST);
  const answer = await settled(socket, "data") as Uint8Array;
  // More than the one byte would be data that someone slipped in before the handshake (CVE-2021-23222).
  if (answer[0] !== ANSWER_TLS || answer.length !== 1) {
    throw new SealwireError(
      "store_unusable",
      `cannot use ${describeTarget(target)}: it does not offer TLS. ` +
        "Switch it on there (ssl = on), or add sslmode=disable to the URL if nobody else is on that network",
    );
  }
  const { host } = target;
  const secured = connectTls({
    socket,
    host,
    ...(isIP(host) === 0 && { servername: host }),
    ...(ca !== undefined && { ca: [ca] }),
  });
  await settled(secured, "secureConnect");
  return secured;
}

/** The next event of that name, or the socket's end. */
async function settled(socket: Socket, event: string): Promise<unknown> {
  return await new Promise((resolve, reject) => {
    const onEvent = (value: unknown) => finish(() => resolve(value));
    const onError = (error: Error) => finish(() => reject(error));
    const onClose = () => finish(() => reject(new ConnectionLostError("it closed the connection")));
    const finish = (settle: () => void) => {
      socket.off(event, onEvent).off("error", onError).off("close", onClose);
      // What comes late has nobody to hear it.
      socket.on("error", () => {});
      settle();
    };
    socket.on(event, onEvent).on("error", onError).on("close", onClose);
  });
}
