/**
 * A TLS server for the tests that have to look at a whole process: it sends back what comes, prints
 * its port first and its notices after. Arguments: certificate file, key file, handshake timeout in
 * milliseconds.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { type Connection, listenTls } from "../../lib/net/net.ts";

const [certPath, keyPath, handshake_timeout_ms] = process.argv.slice(2);

async function echo(connection: Connection): Promise<void> {
  for (let bytes; (bytes = await connection.read()) !== null;) await connection.write(bytes);
  await connection.end();
}

const listener = await listenTls({
  host: "127.0.0.1",
  port: 0,
  alpn: ["sealwire/1"],
  cert: readFileSync(certPath!, "utf8"),
  key: readFileSync(keyPath!, "utf8"),
  handshake_timeout_ms: Number(handshake_timeout_ms),
  onNotice: (notice) => console.log(JSON.stringify({ notice })),
}, (connection) => {
  // A lost connection concerns its client alone.
  echo(connection).catch(() => connection.destroy());
});
console.log(JSON.stringify({ port: listener.port }));
