/** Go's sumdb/note and sumdb/tlog, which share no code with ours, and what they say of what we made. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { temporaryFolder } from "./support.ts";

const GOPATH = "/usr/share/gocode";
const SUMDB = join(GOPATH, "src/golang.org/x/mod/sumdb/tlog");
const PROGRAM = fileURLToPath(new URL("../long/go_sumdb/main.go", import.meta.url));

/** What the Go program verifies; its members are named as there. */
export interface Claim {
  VerifierKey: string;
  Checkpoint: string;
  Record: string;
  Index: number;
  Inclusion: string[];
  Older: string;
  Consistency: string[];
}

/** False, or why Go cannot be asked. */
export function whyNoGo(): string | false {
  const why = "golang-go and golang-golang-x-mod-dev are not installed";
  try {
    execFileSync("go", ["version"], { stdio: "pipe" });
  } catch {
    return why;
  }
  return existsSync(SUMDB) ? false : why;
}

/** Builds the Go program; returns what it says of each claim. */
export function buildVerifier(): (claims: Claim[]) => string[] {
  const folder = temporaryFolder();
  const env = {
    ...process.env,
    GO111MODULE: "off",
    GOPATH,
    GOFLAGS: "",
    GOCACHE: join(folder, "cache"),
  };
  const program = join(folder, "verify");
  execFileSync("go", ["build", "-o", program, PROGRAM], { env, stdio: "pipe" });
  return (claims) => {
    const output = execFileSync(program, { input: JSON.stringify(claims), encoding: "utf8" });
    return output.trimEnd().split("\n");
  };
}
