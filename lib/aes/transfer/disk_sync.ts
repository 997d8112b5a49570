/**
 * Making files and names last through a power failure, many at once: while a sync is under way,
 * those who come meanwhile wait together for the next, which serves all of them.
 */
import { closeSync, fsync, openSync } from "node:fs";
import { setImmediate } from "node:timers";

interface Syncing {
  readonly current: Promise<void>;
  next: Promise<void> | null;
}

/** Syncs of folders, that is of the names in them. */
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

/** Files up to this size are synced in groups; a larger one would keep the others waiting. */
const GROUPED_BYTES_MAX = 1024 * 1024;

interface WaitingFile {
  readonly fd: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Syncs of small files, many at once: those who come while a group is being synced are the next
 * group. Each sync for itself would keep the file system's journal committing without a pause, in
 * which no new file can be made.
 */
export class FileSync {
  private waiting: WaitingFile[] = [];
  private running = false;

  /** Resolves when the content of the open file is on the disk. Rejects with the system's error. */
  sync(fd: number, size_bytes: number): Promise<void> {
    if (size_bytes > GROUPED_BYTES_MAX) return syncFile(fd);
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
      const results = await Promise.allSettled(group.map(({ fd }) => syncFile(fd)));
      // All at once, so that what follows for each can be done for all together.
      for (const [index, { resolve, reject }] of group.entries()) {
        const result = results[index]!;
        if (result.status === "fulfilled") resolve();
        else reject(result.reason);
      }
    }
    this.running = false;
  }
}

/** `fsync` on another thread. */
function syncFile(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(fd, (error) => error ? reject(error) : resolve());
  });
}

async function syncFolder(folder: string): Promise<void> {
  // Names that are made in the same turn of the event loop are synced with it.
  await new Promise<void>((resolve) => setImmediate(resolve));
  const fd = openSync(folder, "r");
  try {
    await syncFile(fd);
  } finally {
    closeSync(fd);
  }
}
