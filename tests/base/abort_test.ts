import { test } from "node:test";
import { untilAborted } from "../../lib/base/abort.ts";

test("waiting for a signal ends when it is aborted", async () => {
  const controller = new AbortController();
  const aborted = untilAborted(controller.signal);
  controller.abort();
  await aborted;
});

test("waiting for a signal that was aborted before ends at once", async () => {
  await untilAborted(AbortSignal.abort());
});
