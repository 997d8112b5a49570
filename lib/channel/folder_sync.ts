/**
 * Making names last through a power failure, many at once: while a folder is being synced, those
 * who come meanwhile wait together for the next sync, which serves all of them.
 */
import { closeSync, fsync, openSync } from "node:fs";

interface Syncing {
  readonly current: Promise<void>;
  next: Promise<void> | null;
}

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

/** `fsync` on another thread. */
export function syncFile(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(fd, (error) => error ? reject(error) : resolve());
  });
}

async function syncFolder(folder: string): Promise<void> {
  const fd = openSync(folder, "r");
  try {
    await syncFile(fd);
  } finally {
    closeSync(fd);
  }
}
