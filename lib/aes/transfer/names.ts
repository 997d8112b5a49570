/**
 * Checks the names of received files: relative paths with `/` between the parts. A name is checked
 * once, before anything on the disk is looked at.
 */
import process from "node:process";
import { SealwireError } from "../../base/errors.ts";
import { NAME_BYTES_MAX } from "../channel/frames.ts";

/** The folder under `--out` for unfinished files. No received file may be in it. */
export const PARTIALS_FOLDER = ".partial";

/** The longest part of a path that file systems allow. */
const PART_BYTES_MAX = 255;

/**
 * How many parts a name may have. Deno checks each part of a path at each access: to make 2,048
 * nested folders took it 30 s, and 128 take 0.1 s.
 */
const PARTS_MAX = 128;

/** Names of devices on Windows, in every folder and with any extension. */
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)/i;
/** Characters that Windows cannot store. */
const WINDOWS_REFUSES = /[<>:"|?*]|[. ]$/;

/**
 * Splits a name into its parts. The path stays under its folder on every file system.
 *
 * @throws {SealwireError} `bad_name`, with a sentence that says why.
 */
export function parseFileName(name: string, platform: string = process.platform): string[] {
  const parts = name.split("/");
  if (parts.length > PARTS_MAX) throw badName(shortened(name), `it has over ${PARTS_MAX} parts`);
  for (const part of parts) {
    const reason = partRefusal(part, platform);
    if (reason) throw badName(name, reason);
  }
  if (new TextEncoder().encode(name).length > NAME_BYTES_MAX) {
    throw badName(shortened(name), `it is longer than ${NAME_BYTES_MAX} bytes`);
  }
  if (parts[0]!.toLowerCase() === PARTIALS_FOLDER) {
    throw badName(name, "that is where unfinished files are kept");
  }
  return parts;
}

function partRefusal(part: string, platform: string): string | null {
  if (part === "") return "it is absolute, or has an empty part";
  if (part === "." || part === "..") return "it leads out of the folder";
  if (/[\p{Cc}\p{Cs}]/u.test(part)) return "it has control characters";
  if (part.includes("\\")) return "it has a backslash";
  if (new TextEncoder().encode(part).length > PART_BYTES_MAX) {
    return `a part of it is longer than ${PART_BYTES_MAX} bytes`;
  }
  if (platform !== "win32") return null;
  if (WINDOWS_DEVICE.test(part)) return "that is the name of a device";
  return WINDOWS_REFUSES.test(part) ? "it has characters that cannot be stored here" : null;
}

function shortened(name: string): string {
  return name.length > PART_BYTES_MAX ? name.slice(0, PART_BYTES_MAX) + "…" : name;
}

function badName(name: string, reason: string): SealwireError {
  return new SealwireError("bad_name", `cannot store "${name}": ${reason}`);
}
