/** Sends messages, files and folders to `aes_server.ts` over an encrypted channel. */
import { pair, send, sendClassic } from "./lib/aes/client.ts";
import { AES_CLIENT } from "./lib/aes/commands.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import { askLine, isAtTerminal } from "./lib/cli/line_prompt.ts";
import { runTool } from "./lib/cli/tool.ts";

await runTool(AES_CLIENT, {
  send: async ({ args, values, out, interrupted }) => {
    const { message: words } = args;
    const { host, key, file: paths } = values;
    const port = parsePort("--port", values.port, 1);
    const stall_ms = parseTimeoutMs(values.timeout);
    const options = { host, port, key, out, interrupted };
    if (values.classic) return await sendClassic({ ...options, words });
    if (!values.pair) {
      const ask = isAtTerminal() ? (question: string) => askLine(question, interrupted) : null;
      const { name = null, sha256: withHash } = values;
      return await send({ ...options, words, paths, name, withHash, stall_ms, ask });
    }
    if (words.length > 1) throw usageError("--pair takes one code, and sends nothing");
    await pair(options, async () => {
      const code = words[0] ?? await askLine("Pairing code: ", interrupted);
      if (code === null) throw usageError("a pairing code is needed");
      return code;
    });
  },
});
