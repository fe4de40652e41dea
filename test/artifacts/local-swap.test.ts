import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { LocalFiles } from '../../src/artifacts/local-files.ts';
import { errnoOf, SidecarError } from '../../src/domain/errors.ts';

/** Enough for dozens of leaks where only the path is looked at. */
const ROUNDS = 3_000;
const CALL = { signal: new AbortController().signal, authorization: null, origin: null };

/** Swaps a directory and a link for as long as it lives. */
const SWAPPER = `
const { renameSync } = require('node:fs');
process.chdir(process.argv[1]);
process.stdout.write('swapping');
for (;;) {
  renameSync('model', 'away');
  renameSync('link', 'model');
  renameSync('model', 'link');
  renameSync('away', 'model');
}`;

async function makeRoot() {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-swap-'));
  const [root, outside] = [join(dir, 'root'), join(dir, 'outside')];
  await mkdir(join(root, 'model/data'), { recursive: true });
  await mkdir(join(outside, 'data'), { recursive: true });
  await writeFile(join(root, 'model/data/weights'), 'a model');
  await writeFile(join(outside, 'data/weights'), 'a secret!');
  await writeFile(join(outside, 'data/secret-name'), '');
  await symlink(outside, join(root, 'link'));
  const swapper = spawn(process.execPath, ['-e', SWAPPER, root], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(async () => {
    swapper.kill('SIGKILL');
    await once(swapper, 'exit');
    await rm(dir, { recursive: true, force: true });
  });
  await once(swapper.stdout, 'data');
  return root;
}

/** What it gives, or nothing where it is refused or not there at the moment. */
async function unlessRefused<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof SidecarError && ['unsafe_path', 'artifact_missing'].includes(error.code))
      return null;
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

async function read(files: LocalFiles): Promise<string> {
  const { body } = await files.open('model/data/weights', CALL);
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

test('a directory that is swapped for a link while it is read gives nothing of what the link leads to', async () => {
  const root = await makeRoot();
  const files = new LocalFiles(root, [root]);
  const seen = new Map<string, number>();
  const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
  for (let n = 0; n < ROUNDS; n++) {
    count((await unlessRefused(read(files))) ?? 'refused');
    const listed = (await unlessRefused(files.list('model/data', CALL))) ?? [];
    for (const { name, size } of listed) count(`${name} of ${size}`);
  }
  // Of both, or nothing was swapped.
  expect(seen.get('a model')).toBeGreaterThan(0);
  expect(seen.get('refused')).toBeGreaterThan(0);
  expect([...seen.keys()].toSorted()).toEqual(['a model', 'refused', 'weights of 7']);
}, 120_000);
