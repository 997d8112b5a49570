/** Sends messages and files to `aes_server.ts` over an encrypted channel. */
import { STALL_MS } from "./lib/aes/channel/channel.ts";
import { pair, send, sendClassic } from "./lib/aes/client.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import { EXIT_INTERRUPTED } from "./lib/cli/exit_status.ts";
import { askLine } from "./lib/cli/line_prompt.ts";
import { runTool } from "./lib/cli/tool.ts";

const HELP = `
Sends a message, files and folders to aes_server.ts over an encrypted, authenticated channel.

  aes_client.ts [message...] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin] [--file PATH]...
  aes_client.ts --pair [CODE] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin]
  aes_client.ts --classic [message...] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin]

  message            words are joined with spaces; "-" reads standard input; without a message and
                     without --file, "Hello Server!"
  --file PATH        a file or folder to send; may be given several times
  --host HOST        the server                                     (127.0.0.1)
  --port PORT        its port                                       (8080)
  --key FILE         the key that both ends hold                    (aes_key.bin)
  --pair [CODE]      get the key from a server that was started with --pair; asks for the code
  --classic          send the message to the old C++ server, which nothing protects from change
  --timeout SECONDS  give up when nothing moves                     (30)
  --json             one JSON object a line on standard output
  --quiet, -q        no remarks and bars on standard error
  --version, --help
`;

const OPTIONS = {
  host: { type: "string" },
  port: { type: "string" },
  key: { type: "string" },
  file: { type: "string", multiple: true },
  pair: { type: "boolean" },
  classic: { type: "boolean" },
  timeout: { type: "string" },
} as const;

await runTool({
  name: "aes_client.ts",
  help: HELP,
  options: OPTIONS,
  exitOnInterrupt: EXIT_INTERRUPTED,
  run: async ({ positionals: words, values, out, interrupted }) => {
    const { host = "127.0.0.1", key = "aes_key.bin", file: paths = [] } = values;
    const port = parsePort("--port", values.port ?? "8080", 1);
    const stall_ms = parseTimeoutMs(values.timeout, STALL_MS);
    const options = { host, port, key, out, interrupted };
    if (values.classic && (values.pair || values.file)) {
      throw usageError("--classic sends a message, and nothing else");
    }
    if (values.classic) return await sendClassic({ ...options, words });
    if (!values.pair) return await send({ ...options, words, paths, stall_ms });
    if (words.length > 1 || values.file) {
      throw usageError("--pair takes a code and sends nothing");
    }
    await pair(options, async () => {
      const code = words[0] ?? await askLine("Pairing code: ", interrupted);
      if (code === null) throw usageError("a pairing code is needed");
      return code;
    });
  },
});
