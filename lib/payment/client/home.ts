/**
 * Where a client is at home: its keys folder, and the server and the account that commands take
 * when the command line names none.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { JsonFile } from "../../base/json_file.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";

const FILE_BYTES_MAX = 16 * 1024;
const HOST_CHARACTERS_MAX = 255;
const PORT_MAX = 65_535;
/** What only a keys folder of ours holds. */
const OWN_FILE = /^(known_servers|known_payees|home)\.json$|_(private|public)\.pem$/;
/** The first line of the page that lies in the `keys` folder of a clone. */
const OWN_PAGE = "# keys\n";

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** What was last registered or chosen. */
export interface Chosen {
  readonly server: ServerAddress | null;
  readonly account: AccountName | null;
}

/**
 * The whole path of the keys folder: the one that is given, else `keys` in the working folder where
 * that holds a file of ours, else `~/.config/sealwire` (the XDG base directories).
 */
export function keysFolderOf(given: string | undefined): string {
  if (given !== undefined) return resolve(given);
  const home = process.env.HOME;
  const config = process.env.XDG_CONFIG_HOME || (home && join(home, ".config"));
  return !config || isKeysFolder("keys") ? resolve("keys") : join(config, "sealwire");
}

function isKeysFolder(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) =>
      OWN_FILE.test(name) ||
      (name === "README.md" && readFileSync(join(folder, name), "utf8").startsWith(OWN_PAGE))
    );
  } catch {
    return false;
  }
}

/** Accounts whose private keys lie in the folder. */
export function accountsIn(keysFolder: string): AccountName[] {
  try {
    return readdirSync(keysFolder).flatMap((file) => {
      const name = /^([a-z0-9][a-z0-9._-]{0,31})_private\.pem$/.exec(file)?.[1];
      return name === undefined || name === "server" ? [] : [parseAccountName(name)];
    });
  } catch {
    return [];
  }
}

/** The server and account last registered or chosen: `home.json` in the keys folder. */
export class Home {
  private readonly file: JsonFile<Chosen>;

  constructor(readonly keysFolder: string) {
    this.file = new JsonFile<Chosen>(join(keysFolder, "home.json"), {
      version: 1,
      size_bytes_max: FILE_BYTES_MAX,
      unreadable_code: "memory_unreadable",
      advice: "move it away, and choose again with use",
      members: ["server", "account"],
      empty: () => ({ server: null, account: null }),
      parse: (members) => ({
        server: members.raw("server") === null ? null : {
          host: members.object("server").text("host", HOST_CHARACTERS_MAX),
          port: members.object("server").integer("port", 1, PORT_MAX),
        },
        account: members.raw("account") === null ? null : parseAccountName(members.raw("account")),
      }),
      toJson: ({ server, account }) => ({ server, account }),
    });
  }

  /** Throws `memory_unreadable`. */
  get chosen(): Chosen {
    return this.file.read();
  }

  /**
   * Remembers what is given, and keeps the rest.
   *
   * @throws {SealwireError} `memory_unreadable`, `file_locked`, `folder_unwritable`,
   * `write_failed`.
   */
  choose(changed: Partial<Chosen>): void {
    this.file.update((chosen) => ({ ...chosen, ...changed }));
  }
}
