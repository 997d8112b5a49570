/**
 * How fast the AES pair carries files over loopback, from disk to disk: one large file and a folder
 * of many small ones. In the same run and over the same loopback, `openssl enc -aes-128-cbc` piped
 * into `openssl enc -d` (which notices no change, resumes nothing and syncs nothing), and `scp`
 * where an sshd can be started. What AES and SHA-256 reach alone on this processor stands beside
 * it.
 *
 *     deno run -A bench/transfer.ts [--size-mib 1024] [--files 5000] [--rounds 3]
 *     bun bench/transfer.ts …
 *
 * Everything lies in the system's temporary folder (TMPDIR). Nothing is deleted before the end,
 * because file systems are slow to hand out again what was just given back.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const MIB = 1024 * 1024;
const SMALL_FILE_BYTES = 4096;
const MEMORY_POLL_MS = 50;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RUN = process.versions.bun ? [] : ["run", "-A", "--no-check"];
const SSHD = "/usr/sbin/sshd";

const { values } = parseArgs({
  options: {
    "size-mib": { type: "string", default: "1024" },
    files: { type: "string", default: "5000" },
    rounds: { type: "string", default: "3" },
  },
});
const size_mib = Number(values["size-mib"]);
const file_count = Number(values.files);
const rounds = Number(values.rounds);

const work = mkdtempSync(join(tmpdir(), "sealwire-bench-"));
const largeFile = join(work, "large");
const smallFiles = join(work, "small");
let folders = 0;

function newFolder(): string {
  const folder = join(work, `to-${folders++}`);
  mkdirSync(folder);
  return folder;
}

function prepare(): void {
  const fd = openSync(largeFile, "w");
  for (let written = 0; written < size_mib; written++) writeSync(fd, randomBytes(MIB));
  closeSync(fd);
  mkdirSync(smallFiles);
  for (let index = 0; index < file_count; index++) {
    writeFileSync(join(smallFiles, `file-${index}`), randomBytes(SMALL_FILE_BYTES));
  }
}

interface Transfer {
  readonly duration_s: number;
  /** Highest resident size of sender and receiver; null where the system does not say. */
  readonly memory_bytes: readonly [number, number] | null;
}

/** Runs both tools and times the client from its start to its exit. */
async function sendWithOurs(path: string): Promise<Transfer> {
  const folder = newFolder();
  const server = tool("aes_server.ts", ["--port", "0", "--json"], folder);
  const { port } = JSON.parse(await firstLine(server.stdout!));
  const started_ms = performance.now();
  const client = tool("aes_client.ts", ["--port", String(port), "--quiet", "--file", path], folder);
  let client_bytes: number | null = null;
  const poll = setInterval(() => {
    client_bytes = peakMemory(client.pid!) ?? client_bytes;
  }, MEMORY_POLL_MS);
  client.stdout!.resume();
  await ended(client);
  const duration_s = (performance.now() - started_ms) / 1000;
  clearInterval(poll);
  const server_bytes = peakMemory(server.pid!);
  process.kill(server.pid!, "SIGTERM");
  await ended(server);
  requireSame(path, join(folder, "received", basename(path)));
  const known = client_bytes !== null && server_bytes !== null;
  return { duration_s, memory_bytes: known ? [client_bytes!, server_bytes!] : null };
}

function tool(name: string, args: string[], cwd: string): ChildProcess {
  return spawn(process.execPath, [...RUN, join(ROOT, name), ...args], {
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Waits for a line, and lets all that follow go past. */
function firstLine(input: Readable): Promise<string> {
  const reader = createInterface({ input });
  return new Promise((resolve) => reader.on("line", resolve));
}

/** Linux's count of the most memory that a process has had in use. */
function peakMemory(pid: number): number | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024 || null;
  } catch {
    return null;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  const status = child.exitCode ??
    await new Promise<number | null>((resolve) => child.once("exit", resolve));
  if (status !== 0) throw new Error(`a process of this measurement ended with ${status}`);
}

function requireSame(left: string, right: string): void {
  execFileSync("diff", ["-rq", left, right], { stdio: "inherit" });
}

/**
 * A TCP connection whose ends are the standard input and output of shell commands: perl does
 * nothing but connect.
 */
const LISTEN = `use IO::Socket::INET; $| = 1;
  my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:0"); print STDERR $l->sockport, "\\n";
  my $c = $l->accept; open STDIN, "<&", $c; exec "sh", "-c", $ARGV[0];`;
const CONNECT = `use IO::Socket::INET;
  my $c = IO::Socket::INET->new("127.0.0.1:$ARGV[0]"); open STDOUT, ">&", $c; exec "sh", "-c", $ARGV[1];`;

/** `send | TCP | receive`, timed from the sender's start to the receiver's exit. */
async function sendWithPipe(send: string, receive: string): Promise<Transfer> {
  const receiver = spawn("perl", ["-e", LISTEN, receive], { stdio: ["ignore", "ignore", "pipe"] });
  const port = await firstLine(receiver.stderr!);
  const started_ms = performance.now();
  const sender = spawn("perl", ["-e", CONNECT, port, send], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await Promise.all([ended(sender), ended(receiver)]);
  return { duration_s: (performance.now() - started_ms) / 1000, memory_bytes: null };
}

const CIPHER =
  "-aes-128-cbc -K 000102030405060708090a0b0c0d0e0f -iv 0f0e0d0c0b0a09080706050403020100";

async function sendLargeWithOpenssl(): Promise<Transfer> {
  const target = join(newFolder(), "large");
  const transfer = await sendWithPipe(
    `openssl enc ${CIPHER} -in ${largeFile}`,
    `openssl enc -d ${CIPHER} -out ${target}`,
  );
  requireSame(largeFile, target);
  return transfer;
}

async function sendSmallWithTar(after = ""): Promise<Transfer> {
  const target = newFolder();
  const transfer = await sendWithPipe(
    `tar -C ${work} -cf - small | openssl enc ${CIPHER}`,
    `openssl enc -d ${CIPHER} | tar -C ${target} -xf - ${after}`,
  );
  requireSame(smallFiles, join(target, "small"));
  return transfer;
}

/**
 * An sshd of this run's own on loopback, and how to copy with it; null where none can be started.
 */
function startSshd(): { copy: () => Transfer; stop: () => void } | null {
  if (!existsSync(SSHD)) return null;
  const folder = newFolder();
  const [host, user] = [join(folder, "host"), join(folder, "user")];
  for (const key of [host, user]) {
    if (spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]).status !== 0) {
      return null;
    }
  }
  const port = 20_000 + process.pid % 10_000;
  mkdirSync("/run/sshd", { recursive: true });
  const options = [
    `ListenAddress=127.0.0.1:${port}`,
    `HostKey=${host}`,
    `AuthorizedKeysFile=${user}.pub`,
    "StrictModes=no",
    "PidFile=none",
    "Subsystem=sftp internal-sftp",
  ].flatMap((option) => ["-o", option]);
  const sshd = spawn(SSHD, ["-D", "-f", "/dev/null", ...options], { stdio: "ignore" });
  const name = process.env.USER ?? "root";
  const scp = (from: string, to: string) =>
    spawnSync("scp", [
      "-q",
      "-i",
      user,
      "-P",
      String(port),
      "-o",
      "StrictHostKeyChecking=no",
      "-o",
      `UserKnownHostsFile=${join(folder, "known")}`,
      "-o",
      "BatchMode=yes",
      "-o",
      "ConnectionAttempts=10",
      from,
      `${name}@127.0.0.1:${to}`,
    ]).status === 0;
  const stop = () => sshd.kill();
  if (!scp(`${user}.pub`, join(folder, "probe"))) {
    stop();
    return null;
  }
  const copy = () => {
    const target = join(newFolder(), "large");
    const started_ms = performance.now();
    if (!scp(largeFile, target)) throw new Error("scp failed");
    const duration_s = (performance.now() - started_ms) / 1000;
    requireSame(largeFile, target);
    return { duration_s, memory_bytes: null };
  };
  return { copy, stop };
}

/** MB/s, on one core unless `flags` say otherwise, by `openssl speed`. */
function opensslSpeed(algorithm: string, ...flags: string[]): number {
  const args = ["speed", ...flags, "-evp", algorithm, "-bytes", "262144", "-seconds", "1"];
  const { stdout } = spawnSync("openssl", args, { encoding: "utf8" });
  return Number(/([\d.]+)k\s*$/.exec(stdout.trim())?.[1] ?? NaN) / 1000;
}

function median(transfers: readonly Transfer[]): Transfer {
  const sorted = [...transfers].sort((left, right) => left.duration_s - right.duration_s);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function show(what: string, transfers: readonly Transfer[], bytes: number): void {
  const { duration_s } = median(transfers);
  const all = transfers.map((transfer) => transfer.duration_s.toFixed(2)).join(", ");
  const rate = `${(bytes / 1e6 / duration_s).toFixed(0)} MB/s`.padStart(10);
  const memory = transfers.map((transfer) => transfer.memory_bytes).filter((pair) => pair !== null);
  const most = (index: 0 | 1) => Math.round(Math.max(...memory.map((pair) => pair[index])) / 1e6);
  const held = memory.length > 0 ? `; memory: sender ${most(0)} MB, receiver ${most(1)} MB` : "";
  console.log(`${what.padEnd(34)} ${rate}  (median of ${all} s${held})`);
}

async function main(): Promise<void> {
  prepare();
  const sshd = startSshd();
  const large = { ours: [] as Transfer[], openssl: [] as Transfer[], scp: [] as Transfer[] };
  const small = { ours: [] as Transfer[], tar: [] as Transfer[], synced: [] as Transfer[] };
  for (let round = 0; round < rounds; round++) {
    large.openssl.push(await sendLargeWithOpenssl());
    large.ours.push(await sendWithOurs(largeFile));
    if (sshd) large.scp.push(sshd.copy());
    small.tar.push(await sendSmallWithTar());
    small.synced.push(await sendSmallWithTar(`&& sync -f ${work}`));
    small.ours.push(await sendWithOurs(smallFiles));
  }
  sshd?.stop();
  const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Deno`;
  console.log(
    `${runtime}, ${availableParallelism()} cores, ${cpus()[0]?.model ?? "unknown processor"}`,
  );
  console.log(`\nOne file of ${size_mib} MiB:`);
  show("  aes_client to aes_server", large.ours, size_mib * MIB);
  show("  openssl enc | TCP | openssl enc -d", large.openssl, size_mib * MIB);
  if (sshd) show("  scp", large.scp, size_mib * MIB);
  else console.log("  scp: left out, no sshd can be started here");
  console.log(`\n${file_count} files of 4 KiB:`);
  show("  aes_client to aes_server", small.ours, file_count * SMALL_FILE_BYTES);
  show("  tar | openssl | TCP | openssl | tar", small.tar, file_count * SMALL_FILE_BYTES);
  show("  the same, then sync -f", small.synced, file_count * SMALL_FILE_BYTES);
  showLimits();
}

function showLimits(): void {
  const cores = String(availableParallelism());
  const sha256 = opensslSpeed("sha256", "-multi", cores);
  const aes = [opensslSpeed("aes-128-cbc"), opensslSpeed("aes-128-cbc", "-decrypt")];
  console.log(`
SHA-256 reaches ${sha256.toFixed(0)} MB/s on all ${cores} cores together; AES-128-CBC on one core
${aes[0]!.toFixed(0)} MB/s to encrypt and ${
    aes[1]!.toFixed(0)
  } MB/s to decrypt. A file passes through SHA-256
four times: the hash of the file and the HMAC of the records, at both ends. Where both ends share
this machine, that alone allows ${(sha256 / 4).toFixed(0)} MB/s.`);
}

try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}
