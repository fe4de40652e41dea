import {
  chmod,
  cp,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { versionKey } from '../../src/domain/version.ts';
import { Vanished } from '../../src/store/disk/vanished.ts';
import { run } from './child.ts';
import {
  commitAll,
  filesBelow,
  litter,
  OWN,
  ofVersion,
  openStore,
  ROOT,
  reopen,
  temporaryDirectory,
  versionOf,
} from './support.ts';

const FILES = {
  MLmodel: 'flavors: {}\n',
  'data/model.pkl': 'bytes',
  'data/deep/er/x': '',
  'a b/ü%.txt': 'y',
};
const OTHER_ROOT = ['mlflow-artifacts:/0/models/m-2/artifacts'] as const;

test('a snapshot is laid out as the manifest says', async () => {
  const { store, dir } = await openStore();
  const { snapshot } = await commitAll(store, FILES);
  const base = join(dir, 'v1/snapshots', snapshot);
  expect(await filesBelow(base)).toEqual(Object.keys(FILES).toSorted());
  for (const [path, content] of Object.entries(FILES)) {
    expect(await readFile(join(base, path), 'utf8')).toBe(content);
  }
  expect(await litter(dir)).toEqual([]);
});

test.each(['000', '022', '077'])(
  'under the umask %s files are 0444, directories 0755 and the sidecar’s own 0700',
  async umask => {
    const dir = await temporaryDirectory();
    await run([dir, 'once', umask]);
    const shared = ['blobs', 'snapshots', 'models', 'refs'].map(name => join(dir, 'v1', name));
    for (const top of [join(dir, 'v1'), ...shared]) expect(await modeOf(top)).toBe(0o755);
    for (const own of ['state', 'tmp']) expect(await modeOf(join(dir, 'v1', own))).toBe(0o700);
    for (const top of shared) {
      for (const entry of await readdir(top, { recursive: true, withFileTypes: true })) {
        if (entry.isSymbolicLink()) continue;
        const path = join(entry.parentPath, entry.name);
        expect([path, await modeOf(path)]).toEqual([path, entry.isDirectory() ? 0o755 : 0o444]);
      }
    }
  },
);

test('a version shares the files that it has in common with another', async () => {
  const { store } = await openStore();
  const one = await commitAll(store, { MLmodel: 'one', 'data/x': 'shared' });
  const two = await commitAll(store, { MLmodel: 'two', 'data/y': 'shared' }, OTHER_ROOT);
  const shared = await stat(join(store.layout.snapshot(one.snapshot), 'data/x'));
  expect((await stat(join(store.layout.snapshot(two.snapshot), 'data/y'))).ino).toBe(shared.ino);
  expect(shared.nlink).toBe(3);
});

test('the same content twice in one version is no trouble', async () => {
  const { store } = await openStore();
  const { snapshot } = await commitAll(store, { MLmodel: 'x', a: 'x', 'b/c': 'x' });
  expect(await filesBelow(store.layout.snapshot(snapshot))).toEqual(['MLmodel', 'a', 'b/c']);
});

test('what is whole is committed again under the same id', async () => {
  const { store, dir } = await openStore();
  const first = await commitAll(store, FILES);
  const again = await commitAll(store, FILES);
  expect(again.snapshot).toBe(first.snapshot);
  expect(await readdir(join(dir, 'v1/snapshots'))).toEqual([first.snapshot]);
});

test('another content, root or scope is another snapshot', async () => {
  const { store } = await openStore();
  const ids = [
    await commitAll(store, FILES),
    await commitAll(store, FILES, OTHER_ROOT),
    await commitAll(store, FILES, ROOT, scopeOf('http://mlflow:5000', null, 'Bearer x')),
    await commitAll(store, { ...FILES, MLmodel: 'other' }),
  ].map(fetched => fetched.snapshot);
  expect(new Set(ids).size).toBe(4);
});

describe('a snapshot that was damaged is not given again and not touched, since somebody may be reading it', () => {
  test.each<[string, (base: string) => Promise<void>]>([
    ['a file was overwritten', base => overwrite(join(base, 'MLmodel'), 'flavors: []\n')],
    ['a file was cut', base => overwrite(join(base, 'data/model.pkl'), 'byt')],
    ['a file is gone', base => rm(join(base, 'MLmodel'))],
    ['a file came along', base => writeFile(join(base, 'data/extra'), '')],
  ])('%s', async (_, damage) => {
    const { store } = await openStore();
    const first = await commitAll(store, FILES);
    const base = store.layout.snapshot(first.snapshot);
    await damage(base);
    const before = await contentsOf(base);
    const again = await commitAll(store, FILES);
    expect(again.snapshot).not.toBe(first.snapshot);
    const expected = Object.entries(FILES).toSorted(([a], [b]) => (a < b ? -1 : 1));
    expect(await contentsOf(store.layout.snapshot(again.snapshot))).toEqual(expected);
    expect(await contentsOf(base)).toEqual(before);
    expect((await store.find(OWN, ofVersion(ROOT)))?.snapshot).toBe(again.snapshot);
  });
});

test('twenty that commit the same at once make one snapshot', async () => {
  const { store, dir } = await openStore();
  const all = await Promise.all(Array.from({ length: 20 }, () => commitAll(store, FILES)));
  expect(new Set(all.map(fetched => fetched.snapshot)).size).toBe(1);
  expect(await readdir(join(dir, 'v1/snapshots'))).toHaveLength(1);
  expect(await litter(dir)).toEqual([]);
});

test('a commit of which a blob is gone makes nothing visible', async () => {
  const { store, dir } = await openStore();
  const { manifest, snapshot } = await commitAll(store, FILES, OTHER_ROOT);
  await rm(store.layout.blob(manifest.files[0]?.sha256 ?? ''));
  await expect(store.commit(OWN, ofVersion(ROOT), manifest, await store.intake())).rejects.toThrow(Vanished);
  expect(await readdir(join(dir, 'v1/snapshots'))).toEqual([snapshot]);
  expect(await store.find(OWN, ofVersion(ROOT))).toBeNull();
  expect(await litter(dir)).toEqual([]);
});

test('where links cannot be, since the blobs are on another file system, a snapshot is of copies', async () => {
  const { store, dir } = await openStore();
  const elsewhere = await otherFileSystem(dir);
  // A machine without a second file system cannot show this.
  if (elsewhere === null) return;
  await commitAll(store, FILES, OTHER_ROOT);
  await moveBlobs(join(dir, 'v1/blobs'), elsewhere);
  const { snapshot } = await commitAll(store, FILES);
  const path = join(store.layout.snapshot(snapshot), 'data/model.pkl');
  expect(await readFile(path, 'utf8')).toBe('bytes');
  expect(await modeOf(path)).toBe(0o444);
  expect((await stat(path)).nlink).toBe(1);
});

describe('what an artifact root holds', () => {
  test('is found again, also after a restart', async () => {
    const opened = await openStore();
    const fetched = await commitAll(opened.store, FILES);
    expect(await opened.store.find(OWN, ofVersion(ROOT))).toEqual(fetched);
    const { store } = await reopen(opened);
    expect(await store.find(OWN, ofVersion(ROOT))).toEqual(fetched);
  });

  test('is not found by another root, layering or credential', async () => {
    const { store } = await openStore();
    await commitAll(store, FILES);
    expect(await store.find(OWN, ofVersion(OTHER_ROOT))).toBeNull();
    expect(await store.find(OWN, ofVersion([...ROOT, ...OTHER_ROOT]))).toBeNull();
    expect(await store.find(scopeOf('http://mlflow:5000', null, 'Bearer x'), ofVersion(ROOT))).toBeNull();
  });

  test('is not found for the next version of the root', async () => {
    const { store } = await openStore();
    await commitAll(store, FILES);
    expect(await store.find(OWN, { ...ofVersion(ROOT), version: 'b'.repeat(32) })).toBeNull();
  });

  test('as an earlier build kept it is that of the version that is published with it, and of no other', async () => {
    const { store, dir } = await openStore();
    const version = versionOf('1');
    const root: readonly [string] = [version.source];
    const of = (number: string) => ({ root, version: versionKey({ ...version, version: number }) });
    const { snapshot, manifest } = await commitAll(store, FILES, root);
    const [record = ''] = await filesBelow(join(dir, 'v1/state/manifests'));
    await rename(join(dir, 'v1/state/manifests', record), store.layout.olderManifest(OWN, root));
    expect(await store.find(OWN, of('1'))).toBeNull();
    const { digest, bytes, files } = manifest;
    const published = { version, snapshot, digest, bytes, files: files.length, root };
    await store.refs.publish(OWN, parseModelUri('models:/churn/1'), published, 1, 1);
    expect((await store.find(OWN, of('1')))?.snapshot).toBe(snapshot);
    expect(await store.find(OWN, of('2'))).toBeNull();
  });

  test('is not found once its snapshot is gone', async () => {
    const { store } = await openStore();
    const { snapshot } = await commitAll(store, FILES);
    await rm(store.layout.snapshot(snapshot), { recursive: true });
    expect(await store.find(OWN, ofVersion(ROOT))).toBeNull();
  });

  test.each(['', '{', '{"format":1}', '{"format":2}', 'null', '[]'])(
    'is forgotten where its record is %j',
    async text => {
      const { store, dir } = await openStore();
      await commitAll(store, FILES);
      const [record = ''] = await filesBelow(join(dir, 'v1/state/manifests'));
      await writeFile(join(dir, 'v1/state/manifests', record), text);
      expect(await store.find(OWN, ofVersion(ROOT))).toBeNull();
      expect(await filesBelow(join(dir, 'v1/state/manifests'))).toEqual([]);
    },
  );

  test('names no snapshot outside the snapshots’ directory, whatever its record says', async () => {
    const { store, dir } = await openStore();
    await commitAll(store, FILES);
    const [record = ''] = await filesBelow(join(dir, 'v1/state/manifests'));
    const path = join(dir, 'v1/state/manifests', record);
    const stored = await readFile(path, 'utf8');
    expect(stored).toMatch(/"snapshot":"[0-9a-f]{32}"/);
    await writeFile(path, stored.replace(/"snapshot":"[^"]*"/, '"snapshot":"../blobs"'));
    expect(await store.find(OWN, ofVersion(ROOT))).toBeNull();
  });
});

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o7777;
}

/** In a new file, so that the blob behind the old one stays good. */
async function overwrite(path: string, content: string): Promise<void> {
  await rm(path);
  await writeFile(path, content, { mode: 0o444 });
}

async function contentsOf(base: string): Promise<readonly (readonly [string, string])[]> {
  const paths = await filesBelow(base);
  return await Promise.all(
    paths.map(async path => [path, await readFile(join(base, path), 'utf8')] as const),
  );
}

async function otherFileSystem(dir: string): Promise<string | null> {
  const here = await stat(dir);
  const there = await stat('/dev/shm').catch(() => null);
  return there === null || there.dev === here.dev ? null : '/dev/shm';
}

async function moveBlobs(blobs: string, fileSystem: string): Promise<void> {
  const target = await mkdtemp(join(fileSystem, 'sidecar-store-'));
  onTestFinished(() => rm(target, { recursive: true, force: true }));
  await cp(blobs, join(target, 'blobs'), { recursive: true });
  await rename(blobs, `${blobs}.old`);
  await symlink(join(target, 'blobs'), blobs);
  await chmod(target, 0o755);
}
