import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, open, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atExit } from '../../test/support/at-exit.ts';

const MIB = 1024 * 1024;

/** Removed when the bench ends, whichever way. */
export function workDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecar-bench-'));
  atExit(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** An empty directory of this name. */
export async function fresh(dir: string, name: string): Promise<string> {
  const path = join(dir, name);
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  return path;
}

let made = 0;

/**
 * A new directory, beside what is there. For many files: ext4 uses no inode again within minutes of its removal, and looks for others
 * one by one, so that a thousand files removed just before cost the next thousand up to a second.
 */
export async function unused(dir: string, name: string): Promise<string> {
  return await fresh(dir, `${name}-${made++}`);
}

/** A file of so many bytes of which no two MiB are equal. */
export async function randomFile(path: string, size: number): Promise<void> {
  const block = Buffer.alloc(MIB);
  randomFillSync(block);
  const handle = await open(path, 'w');
  try {
    for (let at = 0; at < size; at += MIB) {
      block.writeBigUInt64LE(BigInt(at));
      await handle.write(block, 0, Math.min(MIB, size - at));
    }
  } finally {
    await handle.close();
  }
}

/** @throws Error where the disk has less than so many bytes left */
export async function assertSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize < bytes) {
    throw new Error(
      `${dir} has less than ${Math.round(bytes / 2 ** 30)} GiB left: set TMPDIR to a larger disk.`,
    );
  }
}
