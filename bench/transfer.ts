/**
 * How fast the AES pair carries files, beside tools that everybody has, in the same run and from
 * disk to disk, with everything synced at the end:
 *
 *   - one large file over loopback: beside `scp`, and `openssl enc -aes-128-cbc | TCP | openssl enc
 *     -d`, which notices no change and resumes nothing;
 *   - many small files over loopback: beside the same pipe between two `tar`;
 *   - one file over a line of 1 Gbit/s and 100 ms (a delaying proxy): beside `scp`;
 *   - going on with a file of which all but the end is there: to the first new byte on the disk, and
 *     to its acknowledgement. Nothing else here compares what is there, so no tool is beside it.
 *
 *     deno run -A bench/transfer.ts [--quick] [--json] [--rounds 5] [--size-mib 1024] [--files 5000]
 *                                   [--line-mib 256] [--resume-mib 4096]
 *     bun bench/transfer.ts …
 *
 * The tools take turns, and each row shows medians. Everything lies in the system's temporary folder
 * (TMPDIR). Nothing is deleted before the end of a row, because file systems are slow to hand out
 * again what was just given back.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { LongLine } from "../tests/support/long_line.ts";

const MIB = 1024 * 1024;
const SMALL_FILE_BYTES = 4096;
/** How much of the file is missing where a transfer goes on. */
const MISSING_BYTES = 64 * MIB;
const LINE = { round_trip_ms: 100, bytes_per_s: 125e6 };
const POLL_MS = 25;
const FIRST_BYTE_POLL_MS = 1;
/** Linux's unit of processor time in /proc. */
const TICKS_PER_S = 100;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const RUN = process.versions.bun ? [] : ["run", "-A", "--no-check"];
const RUNTIME = process.versions.bun
  ? `Bun ${process.versions.bun}`
  : /^deno \S+/.exec(execFileSync(process.execPath, ["--version"], { encoding: "utf8" }))![0];
const SSHD = "/usr/sbin/sshd";
const USUAL = { rounds: 5, "size-mib": 1024, files: 5_000, "line-mib": 256, "resume-mib": 4096 };
const QUICK = { rounds: 3, "size-mib": 256, files: 1_000, "line-mib": 64, "resume-mib": 512 };

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    rounds: { type: "string" },
    "size-mib": { type: "string" },
    files: { type: "string" },
    "line-mib": { type: "string" },
    "resume-mib": { type: "string" },
  },
});
const size = (name: keyof typeof USUAL) =>
  Number(values[name] ?? (values.quick ? QUICK : USUAL)[name]);
const rounds = size("rounds");

const work = mkdtempSync(join(tmpdir(), "sealwire-bench-"));
let folders = 0;

function newFolder(): string {
  const folder = join(work, `to-${folders++}`);
  mkdirSync(folder);
  return folder;
}

function makeFile(name: string, size_mib: number): string {
  const path = join(work, name);
  const fd = openSync(path, "w");
  for (let written = 0; written < size_mib; written++) writeSync(fd, randomBytes(MIB));
  closeSync(fd);
  return path;
}

function makeSmallFiles(count: number): string {
  const folder = join(work, "small");
  mkdirSync(folder);
  for (let index = 0; index < count; index++) {
    writeFileSync(join(folder, `file-${index}`), randomBytes(SMALL_FILE_BYTES));
  }
  return folder;
}

/** What a process has used, as Linux says. */
interface Use {
  readonly cpu_s: number;
  readonly memory_bytes: number;
}

interface Transfer {
  readonly duration_s: number;
  /** Of sender and receiver; null where it is not known. */
  readonly use: readonly [Use, Use] | null;
}

/** A server of ours in a folder of its own, which may have received before. */
async function startOurs(folder: string) {
  const server = tool("aes_server.ts", ["--port", "0", "--json", "--quiet"], folder);
  const { port } = JSON.parse(await firstLine(server.stdout!));
  return { server, port: Number(port) };
}

/** Runs both tools and times the client from its start to its exit. `through` gives another port. */
async function sendWithOurs(
  path: string,
  through: (port: number) => Promise<number> = (port) => Promise.resolve(port),
  folder: string = newFolder(),
): Promise<Transfer> {
  const { server, port } = await startOurs(folder);
  const to = String(await through(port));
  const started_ms = performance.now();
  const client = tool("aes_client.ts", ["--port", to, "--quiet", "--file", path], folder);
  let sender = used(client.pid!);
  const poll = setInterval(() => sender = used(client.pid!) ?? sender, POLL_MS);
  client.stdout!.resume();
  await ended(client);
  const duration_s = (performance.now() - started_ms) / 1000;
  clearInterval(poll);
  const receiver = used(server.pid!);
  process.kill(server.pid!, "SIGTERM");
  await ended(server);
  requireSame(path, join(folder, "received", basename(path)));
  return { duration_s, use: sender && receiver ? [sender, receiver] : null };
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

/** What a process has used so far. Null where the system does not say, or the process has ended. */
function used(pid: number): Use | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const memory_bytes = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    const cpu_s = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
    return memory_bytes > 0 ? { cpu_s, memory_bytes } : null;
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
  return { duration_s: (performance.now() - started_ms) / 1000, use: null };
}

const CIPHER =
  "-aes-128-cbc -K 000102030405060708090a0b0c0d0e0f -iv 0f0e0d0c0b0a09080706050403020100";

async function sendLargeWithOpenssl(path: string): Promise<Transfer> {
  const target = join(newFolder(), "large");
  const transfer = await sendWithPipe(
    `openssl enc ${CIPHER} -in ${path}`,
    `openssl enc -d ${CIPHER} -out ${target} && sync ${target}`,
  );
  requireSame(path, target);
  return transfer;
}

async function sendSmallWithTar(folder: string): Promise<Transfer> {
  const target = newFolder();
  const transfer = await sendWithPipe(
    `tar -C ${work} -cf - ${basename(folder)} | openssl enc ${CIPHER}`,
    `openssl enc -d ${CIPHER} | tar -C ${target} -xf - && sync -f ${target}`,
  );
  requireSame(folder, join(target, basename(folder)));
  return transfer;
}

interface Sshd {
  readonly port: number;
  copy(path: string, port?: number): Promise<Transfer>;
  stop(): void;
}

/** An sshd of this run's own on loopback, and how to copy with it; null where none can be started. */
async function startSshd(): Promise<Sshd | null> {
  if (!existsSync(SSHD)) return null;
  const folder = newFolder();
  const [host, user] = [join(folder, "host"), join(folder, "user")];
  for (const key of [host, user]) {
    const made = spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
    if (made.status !== 0) return null;
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
  const known = [
    "StrictHostKeyChecking=no",
    `UserKnownHostsFile=${join(folder, "known")}`,
    "BatchMode=yes",
    "ConnectionAttempts=10",
  ].flatMap((option) => ["-o", option]);
  const name = process.env.USER ?? "root";
  const copy = async (path: string, to_port = port): Promise<Transfer> => {
    const target = join(newFolder(), basename(path));
    const started_ms = performance.now();
    const to = `${name}@127.0.0.1:${target}`;
    await ended(spawn("scp", ["-q", "-i", user, "-P", String(to_port), ...known, path, to]));
    await ended(spawn("sync", [target]));
    const duration_s = (performance.now() - started_ms) / 1000;
    requireSame(path, target);
    return { duration_s, use: null };
  };
  try {
    await copy(`${user}.pub`);
    return { port, copy, stop: () => sshd.kill() };
  } catch {
    sshd.kill();
    return null;
  }
}

/** Sends over {@linkcode LINE}, with a line of its own. */
async function overLine(
  port: number,
  send: (port: number) => Promise<Transfer>,
): Promise<Transfer> {
  const line = await LongLine.start(port, LINE);
  try {
    return await send(line.port);
  } finally {
    line.close();
  }
}

async function sendOverLine(path: string): Promise<Transfer> {
  let line: LongLine | null = null;
  const transfer = await sendWithOurs(path, async (port) => {
    line = await LongLine.start(port, LINE);
    return line.port;
  });
  (line as LongLine | null)?.close();
  return transfer;
}

/** Goes on with a file of which the end is missing, and times the first new byte and all of it. */
async function resume(path: string): Promise<{ first: Transfer; all: Transfer }> {
  const folder = newFolder();
  const partials = join(folder, "received", ".partial");
  mkdirSync(partials, { recursive: true });
  const partial = join(partials, createHash("sha256").update(basename(path)).digest("hex"));
  const had_bytes = statSync(path).size - MISSING_BYTES;
  copyFileSync(path, partial);
  truncateSync(partial, had_bytes);
  execFileSync("sync", [partial]);
  const grown = () => (statSync(partial, { throwIfNoEntry: false })?.size ?? had_bytes) > had_bytes;
  let started_ms = 0;
  let first_s = NaN;
  const poll = setInterval(() => {
    if (!(first_s >= 0) && grown()) first_s = (performance.now() - started_ms) / 1000;
  }, FIRST_BYTE_POLL_MS);
  const all = await sendWithOurs(path, (port) => {
    started_ms = performance.now();
    return Promise.resolve(port);
  }, folder);
  clearInterval(poll);
  return { first: { duration_s: first_s, use: null }, all };
}

/** MB/s, on one core unless `flags` say otherwise, by `openssl speed`. */
function opensslSpeed(algorithm: string, ...flags: string[]): number {
  const args = ["speed", ...flags, "-evp", algorithm, "-bytes", "262144", "-seconds", "1"];
  const { stdout } = spawnSync("openssl", args, { encoding: "utf8" });
  return Number(/([\d.]+)k\s*$/.exec(stdout.trim())?.[1] ?? NaN) / 1000;
}

/** A line of the table: our tools, or another beside them. */
interface Row {
  readonly what: string;
  readonly tool: string;
  readonly size_bytes: number;
  readonly durations_s: number[];
  readonly median_s: number;
  /** Of sender and receiver together, the median; null where it is not known. */
  readonly cpu_s: number | null;
  readonly memory_bytes: number | null;
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)]!;
}

function row(what: string, tool: string, size_bytes: number, transfers: readonly Transfer[]): Row {
  const durations_s = transfers.map(({ duration_s }) => duration_s);
  const use = transfers.map((transfer) => transfer.use).filter((pair) => pair !== null);
  const known = use.length > 0;
  return {
    what,
    tool,
    size_bytes,
    durations_s,
    median_s: median(durations_s),
    cpu_s: known ? median(use.map(([left, right]) => left.cpu_s + right.cpu_s)) : null,
    memory_bytes: known
      ? Math.max(...use.flatMap((pair) => pair.map(({ memory_bytes }) => memory_bytes)))
      : null,
  };
}

/** How each tool sends once. */
type Tools = Record<string, () => Promise<Transfer>>;

/** Lets the tools take turns, and deletes what they made. */
async function measure(
  what: string,
  size_bytes: number,
  tools: Tools,
): Promise<Row[]> {
  const transfers: Record<string, Transfer[]> = {};
  for (let round = 0; round < rounds; round++) {
    for (const [name, send] of Object.entries(tools)) (transfers[name] ??= []).push(await send());
  }
  removeTargets();
  return Object.entries(transfers).map(([name, all]) => row(what, name, size_bytes, all));
}

function removeTargets(): void {
  for (let index = 1; index < folders; index++) {
    rmSync(join(work, `to-${index}`), { recursive: true, force: true });
  }
}

async function measureResuming(): Promise<Row[]> {
  const size_mib = size("resume-mib");
  const path = makeFile("resumed", size_mib);
  const resumed = [];
  for (let round = 0; round < rounds; round++) {
    resumed.push(await resume(path));
    removeTargets();
  }
  const what = `${size_mib} MiB, of which ${MISSING_BYTES / MIB} are missing`;
  const first = resumed.map(({ first }) => first);
  return [
    row(what, "sealwire, to the first new byte", 0, first),
    row(what, "sealwire, to the end", MISSING_BYTES, resumed.map(({ all }) => all)),
  ];
}

async function main(): Promise<void> {
  const load_before = loadavg()[0]!;
  // The first folder is the sshd's, and stays.
  const sshd = await startSshd();
  const [size_mib, count, line_mib] = [size("size-mib"), size("files"), size("line-mib")];
  const large = makeFile("large", size_mib);
  const small = makeSmallFiles(count);
  const lined = makeFile("lined", line_mib);
  const withScp = (copy: (sshd: Sshd) => Promise<Transfer>): Tools =>
    sshd ? { scp: () => copy(sshd) } : {};
  const rows = [
    ...await measure(`one file of ${size_mib} MiB`, size_mib * MIB, {
      sealwire: () => sendWithOurs(large),
      ...withScp((sshd) => sshd.copy(large)),
      "openssl enc": () => sendLargeWithOpenssl(large),
    }),
    ...await measure(`${count} files of 4 KiB`, count * SMALL_FILE_BYTES, {
      sealwire: () => sendWithOurs(small),
      "tar, openssl enc": () => sendSmallWithTar(small),
    }),
    ...await measure(`${line_mib} MiB, 1 Gbit/s, 100 ms`, line_mib * MIB, {
      sealwire: () => sendOverLine(lined),
      ...withScp((sshd) => overLine(sshd.port, (port) => sshd.copy(lined, port))),
    }),
    ...await measureResuming(),
  ];
  sshd?.stop();
  const loads = [load_before, loadavg()[0]!];
  if (values.json) console.log(JSON.stringify({ runtime: RUNTIME, loads, rows }));
  else show(rows, loads, sshd !== null);
}

function show(rows: readonly Row[], loads: readonly number[], had_sshd: boolean): void {
  const processor = cpus()[0]?.model ?? "unknown processor";
  console.log(`${RUNTIME}, ${availableParallelism()} cores, ${processor}`);
  console.log(`Load before and after: ${loads.map((load) => load.toFixed(1)).join(", ")}`);
  let what = "";
  for (const row of rows) {
    if (row.what !== what) console.log(`\n${row.what}`);
    const ours = row.what === what ? rows.find((other) => other.what === row.what) : undefined;
    what = row.what;
    console.log(describe(row, ours?.tool === "sealwire" ? ours : null));
  }
  if (!had_sshd) console.log("\nscp is left out: no sshd can be started here");
  showLimits();
}

/** One line of the table. `ours` is what a tool of others is compared with. */
function describe(row: Row, ours: Row | null): string {
  const { median_s, size_bytes, durations_s, cpu_s, memory_bytes } = row;
  const rate = size_bytes > 0 ? `${(size_bytes / 1e6 / median_s).toFixed(0)} MB/s` : "";
  const notes = [
    `of ${durations_s.map((duration_s) => duration_s.toFixed(2)).join(" ")}`,
    ...(ours ? [`sealwire's rate is ${(median_s / ours.median_s).toFixed(2)} of it`] : []),
    ...(cpu_s !== null ? [`processor ${cpu_s.toFixed(1)} s`] : []),
    ...(memory_bytes !== null
      ? [`memory ${Math.round(memory_bytes / 1e6)} MB an end at most`]
      : []),
  ];
  const figures = `${median_s.toFixed(2).padStart(7)} s ${rate.padStart(9)}`;
  return `  ${row.tool.padEnd(32)} ${figures}   ${notes.join("; ")}`;
}

function showLimits(): void {
  const sha256 = opensslSpeed("sha256");
  const aes = [opensslSpeed("aes-128-cbc"), opensslSpeed("aes-128-cbc", "-decrypt")];
  const [encrypt, decrypt] = aes.map((rate) => rate.toFixed(0));
  console.log(`
On one core, by \`openssl speed\`: AES-128-CBC ${encrypt} MB/s to encrypt and ${decrypt} to decrypt,
SHA-256 ${sha256.toFixed(0)} MB/s. Each byte passes once through each at either end.`);
}

try {
  await main();
} finally {
  rmSync(work, { recursive: true, force: true });
}
