/**
 * Syncs many files and folders at a low cost: while one sync is running, all requests that come in
 * wait together for the next one, which serves them all. What is synced survives a power failure.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { syncFileInBackground, syncFolderInBackground } from "../../base/files.ts";

interface Syncing {
  readonly current: Promise<void>;
  next: Promise<void> | null;
}

/** Syncs folders, that is the names in them. */
export class FolderSync {
  private readonly syncing = new Map<string, Syncing>();

  /**
   * Resolves when every name that is in the folder now is on the disk. Rejects with the system's
   * error.
   */
  sync(folder: string): Promise<void> {
    const running = this.syncing.get(folder);
    if (!running) return this.start(folder);
    return running.next ??= running.current.catch(() => {}).then(() => this.start(folder));
  }

  private start(folder: string): Promise<void> {
    const current = syncFolder(folder).finally(() => {
      if (this.syncing.get(folder)?.current === current) this.syncing.delete(folder);
    });
    this.syncing.set(folder, { current, next: null });
    return current;
  }
}

/** The largest file that is synced in a group. A larger one would keep the others waiting. */
const GROUPED_BYTES_MAX = 1024 * 1024;

interface WaitingFile {
  readonly fd: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Syncs small files in groups. Files that come in while a group is being synced form the next one.
 *
 * Single syncs would keep the file system's journal committing without a pause, and no new file
 * can be made during a commit.
 */
export class FileSync {
  private waiting: WaitingFile[] = [];
  private running = false;

  /** Resolves when the content of the open file is on the disk. Rejects with the system's error. */
  sync(fd: number, size_bytes: number): Promise<void> {
    if (size_bytes > GROUPED_BYTES_MAX) return syncFileInBackground(fd);
    return new Promise((resolve, reject) => {
      this.waiting.push({ fd, resolve, reject });
      if (!this.running) this.run();
    });
  }

  private async run(): Promise<void> {
    this.running = true;
    while (this.waiting.length > 0) {
      const group = this.waiting;
      this.waiting = [];
      const results = await Promise.allSettled(group.map(({ fd }) => syncFileInBackground(fd)));
      // Settled together, so that the next steps of these files share one folder sync.
      for (const [index, { resolve, reject }] of group.entries()) {
        const result = results[index]!;
        if (result.status === "fulfilled") resolve();
        else reject(result.reason);
      }
    }
    this.running = false;
  }
}

async function syncFolder(folder: string): Promise<void> {
  // One sync covers all names that are made in the same turn of the event loop.
  await nextTurn();
  await syncFolderInBackground(folder);
}
