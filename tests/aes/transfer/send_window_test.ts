import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  SendWindow,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
} from "../../../lib/aes/transfer/send_window.ts";
import { runClient, startServer } from "../../support/aes.ts";
import { LongLine } from "../../support/long_line.ts";
import { temporaryFolder } from "../../support/support.ts";
import { MIB } from "../../support/transfer.ts";

const PIECE_BYTES = MIB / 4;

/**
 * Sends pieces for so long over a line that takes `bytes_per_ms`, and tells of each after
 * `round_trip_ms`. Returns the window at the end and the largest one.
 */
function simulate(line: { round_trip_ms: number; bytes_per_ms: number; duration_ms: number }) {
  const window = new SendWindow();
  const news: { at_ms: number; end_bytes: number }[] = [];
  let sent_bytes = 0;
  let written_bytes = 0;
  let free_at_ms = 0;
  let size_bytes_max = 0;
  for (let now_ms = 0; now_ms < line.duration_ms; now_ms += 0.25) {
    while (sent_bytes - written_bytes < window.size_bytes) {
      sent_bytes += PIECE_BYTES;
      window.sent(1, sent_bytes, now_ms);
      free_at_ms = Math.max(free_at_ms, now_ms) + PIECE_BYTES / line.bytes_per_ms;
      news.push({ at_ms: free_at_ms + line.round_trip_ms, end_bytes: sent_bytes });
    }
    while (news[0] && news[0].at_ms <= now_ms) {
      const { end_bytes } = news.shift()!;
      window.written(1, end_bytes, end_bytes - written_bytes, now_ms);
      written_bytes = end_bytes;
    }
    size_bytes_max = Math.max(size_bytes_max, window.size_bytes);
  }
  const bytes_per_ms = written_bytes / line.duration_ms;
  return { size_bytes: window.size_bytes, size_bytes_max, bytes_per_ms };
}

test("over a long line the window grows until the line is full, and no further", () => {
  const line = { round_trip_ms: 100, bytes_per_ms: 125_000 };
  const { size_bytes_max, bytes_per_ms } = simulate({ ...line, duration_ms: 5_000 });
  assert.ok(bytes_per_ms > 0.8 * line.bytes_per_ms, `${bytes_per_ms} bytes a ms`);
  const filled_bytes = line.round_trip_ms * line.bytes_per_ms;
  assert.ok(size_bytes_max < 2.5 * filled_bytes, `${size_bytes_max} bytes`);
});

test("on a near line the window stays small, however fast the line is", () => {
  for (const bytes_per_ms of [50_000, 500_000]) {
    const near = simulate({ round_trip_ms: 0.5, bytes_per_ms, duration_ms: 1_000 });
    assert.equal(near.size_bytes_max, WINDOW_BYTES_MIN);
  }
});

test("the window is bounded, and shrinks again where the receiver slows down", () => {
  const line = { round_trip_ms: 2_000, bytes_per_ms: 1_000_000, duration_ms: 60_000 };
  assert.equal(simulate(line).size_bytes_max, WINDOW_BYTES_MAX);
  const window = new SendWindow();
  let at = 0;
  const send = (latency_ms: number) => {
    window.sent(1, at + PIECE_BYTES, at);
    window.written(1, at + PIECE_BYTES, PIECE_BYTES, at + latency_ms);
    at += PIECE_BYTES;
  };
  for (let count = 0; count < 100; count++) {
    for (let piece = 1; piece <= 100; piece++) window.sent(1, at + piece * PIECE_BYTES, at);
    window.written(1, at + 100 * PIECE_BYTES, 100 * PIECE_BYTES, at + 100);
    at += 100 * PIECE_BYTES;
  }
  assert.ok(window.size_bytes > 8 * WINDOW_BYTES_MIN);
  for (let count = 0; count < 100; count++) send(1_000);
  assert.equal(window.size_bytes, WINDOW_BYTES_MIN);
});

test("what is told of one file says nothing about another, and is forgotten with it", () => {
  const window = new SendWindow();
  for (let item = 1; item <= 10_000; item++) window.sent(item, PIECE_BYTES, item);
  window.written(20_000, PIECE_BYTES, PIECE_BYTES, 10_001);
  assert.equal(window.size_bytes, WINDOW_BYTES_MIN);
});

test("a file over a line of 100 ms: far more than the smallest window is under way", {
  timeout: 60_000,
}, async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const line = await LongLine.start(server.port, { round_trip_ms: 100, bytes_per_s: 125e6 });
  const path = join(temporaryFolder(), "big");
  const content = randomBytes(64 * MIB);
  writeFileSync(path, content);
  const { sent, error } = await runClient(line.port, { paths: [path] });
  assert.equal(error, null);
  assert.equal(sent[0]?.resent_bytes, 0);
  assert.ok(readFileSync(join(out, "big")).equals(content));
  assert.ok(line.to_server_bytes_max > 2 * WINDOW_BYTES_MIN, `${line.to_server_bytes_max} bytes`);
  line.close();
  await server.close();
});
