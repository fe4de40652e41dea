import { createHash } from 'node:crypto';
import { mkdir, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Layout } from '../../src/store/disk/layout.ts';
import { Partials } from '../../src/store/intake/partials.ts';
import { bodyOf, temporaryDirectory } from './support.ts';

const SIZE = 9 * 1024 * 1024;
const KEY = { identity: 'a large file', total: SIZE };

/** What this process has open whose path has `part` in it. */
async function openFiles(part: string): Promise<readonly string[]> {
  const fds = await readdir('/proc/self/fd');
  const paths = await Promise.all(fds.map(fd => readlink(join('/proc/self/fd', fd)).catch(() => '')));
  return paths.filter(path => path.includes(part));
}

async function start() {
  const layout = new Layout(await temporaryDirectory());
  const tmp = join(layout.tmp, 'own');
  await mkdir(tmp, { recursive: true });
  await mkdir(layout.partials, { recursive: true });
  return { layout, tmp, partials: new Partials(layout, tmp) };
}

/** Most of a large file has come; `info.json` cannot be written from now on. */
async function unrememberable() {
  const { tmp, partials } = await start();
  const partial = await partials.take(KEY, false);
  await partial.restart('"1"');
  await partial.file.write(bodyOf(Buffer.alloc(SIZE - 1)), { at: 0, end: SIZE - 1 });
  const [dir = ''] = await readdir(tmp);
  await mkdir(join(tmp, dir, 'info.json'));
  expect(await openFiles(tmp)).toHaveLength(1);
  return { tmp, partials, partial };
}

test('a partial whose state cannot be written down is closed when it is left', async () => {
  const { tmp, partials, partial } = await unrememberable();
  await partial.leave();
  expect(await openFiles(tmp)).toEqual([]);
  expect(await readdir(tmp)).toEqual([]);
  await partials.idle();
});

test('so is one that could not be finished', async () => {
  const { tmp, partial } = await unrememberable();
  await expect(partial.finish(join(tmp, 'whole'))).rejects.toMatchObject({ code: 'artifact_corrupt' });
  await partial.leave();
  expect(await openFiles(tmp)).toEqual([]);
});

test('a partial that cannot be taken over is neither open nor there afterwards', async () => {
  const { layout, tmp, partials } = await start();
  const kept = join(layout.partials, createHash('sha256').update(KEY.identity).digest('hex'));
  await mkdir(kept);
  const info = { format: 1, etag: '"1"', total: SIZE, bytes: 1, sha256: '' };
  await writeFile(join(kept, 'info.json'), JSON.stringify(info));
  // It opens, and cannot be emptied.
  await symlink('/dev/full', join(kept, 'data'));
  await expect(partials.take(KEY, false)).rejects.toMatchObject({ code: 'EINVAL' });
  expect(await openFiles('/dev/full')).toEqual([]);
  expect(await readdir(tmp)).toEqual([]);
  await partials.idle();
});
