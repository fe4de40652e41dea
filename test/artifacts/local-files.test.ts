import { execFile } from 'node:child_process';
import { mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { LocalFiles } from '../../src/artifacts/local-files.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { call } from '../upstream/support.ts';
import { temporaryDirectory, writeFiles } from './support.ts';

const MODEL = { MLmodel: Buffer.from('x'), 'data/x': Buffer.from('y') };

/** A directory that may be read, one that may not, and a model in each. */
async function directories() {
  const dir = await temporaryDirectory();
  const [allowed, secret] = [join(dir, 'allowed'), join(dir, 'secret')];
  await writeFiles(join(allowed, 'model'), MODEL);
  await writeFiles(join(secret, 'model'), MODEL);
  return { allowed, secret, source: new LocalFiles(join(allowed, 'model'), [allowed]) };
}

const UNSAFE = { code: 'unsafe_path', hint: expect.stringContaining('SIDECAR_FILE_ROOTS') };

describe('what is outside the directories that may be read is unsafe_path', () => {
  test('as the root itself', async () => {
    const { allowed, secret } = await directories();
    const source = new LocalFiles(join(secret, 'model'), [allowed]);
    await expect(source.list('', call())).rejects.toMatchObject(UNSAFE);
    await expect(source.open('MLmodel', call())).rejects.toMatchObject(UNSAFE);
  });

  test('as a directory whose name only begins like the allowed one', async () => {
    const { allowed, secret } = await directories();
    await writeFiles(`${allowed}-not`, MODEL);
    await expect(new LocalFiles(`${allowed}-not`, [allowed]).list('', call())).rejects.toMatchObject(UNSAFE);
    await expect(
      new LocalFiles(join(allowed, '../secret'), [allowed]).list('', call()),
    ).rejects.toMatchObject(UNSAFE);
    await expect(new LocalFiles(secret, [join(secret, 'model')]).list('', call())).rejects.toMatchObject(
      UNSAFE,
    );
  });

  test('as a link to a file', async () => {
    const { allowed, secret, source } = await directories();
    await symlink(join(secret, 'model/MLmodel'), join(allowed, 'model/link'));
    await expect(source.list('', call())).rejects.toMatchObject(UNSAFE);
    await expect(source.open('link', call())).rejects.toMatchObject(UNSAFE);
  });

  test('as a link to a directory', async () => {
    const { allowed, source } = await directories();
    await symlink('../../secret/model', join(allowed, 'model/link'));
    await expect(source.list('', call())).rejects.toMatchObject(UNSAFE);
    await expect(source.list('link', call())).rejects.toMatchObject(UNSAFE);
    await expect(source.open('link/MLmodel', call())).rejects.toMatchObject(UNSAFE);
  });

  test('as a path with ..', async () => {
    const { source } = await directories();
    await expect(source.open('../../secret/model/MLmodel', call())).rejects.toMatchObject(UNSAFE);
  });

  test('as anything at all where nothing may be read, or what may is not there', async () => {
    const { allowed } = await directories();
    await expect(new LocalFiles(allowed, []).list('', call())).rejects.toMatchObject(UNSAFE);
    await expect(new LocalFiles(allowed, ['/nowhere']).list('', call())).rejects.toMatchObject(UNSAFE);
  });
});

describe('a link that stays inside', () => {
  test('is what it points to', async () => {
    const { allowed, source } = await directories();
    await symlink('MLmodel', join(allowed, 'model/file'));
    await symlink('data', join(allowed, 'model/dir'));
    const entries = await source.list('', call());
    expect(entries).toContainEqual({ name: 'file', isDir: false, size: 1 });
    expect(entries).toContainEqual({ name: 'dir', isDir: true, size: null });
    expect(await source.list('dir', call())).toEqual([{ name: 'x', isDir: false, size: 1 }]);
  });

  test('may be the allowed directory itself', async () => {
    const { allowed } = await directories();
    await symlink(allowed, `${allowed}-link`);
    const source = new LocalFiles(join(`${allowed}-link`, 'model'), [`${allowed}-link`]);
    expect(await source.list('', call())).toHaveLength(2);
  });
});

test('a link that leads nowhere is artifact_missing', async () => {
  const { allowed, source } = await directories();
  await symlink('nowhere', join(allowed, 'model/link'));
  await expect(source.list('', call())).rejects.toMatchObject({ code: 'artifact_missing' });
});

test('a second directory that may be read counts as much as the first', async () => {
  const { allowed, secret } = await directories();
  const source = new LocalFiles(join(secret, 'model'), [allowed, secret]);
  expect(await source.list('', call())).toHaveLength(2);
});

test('a file that grew after it was listed is still given with its own length', async () => {
  const { allowed, source } = await directories();
  await writeFile(join(allowed, 'model/MLmodel'), 'longer');
  const opened = await source.open('MLmodel', call());
  opened.close();
  expect(opened.length).toBe(6);
});

test('a directory opened as a file does not hang', async () => {
  const { allowed, source } = await directories();
  await mkdir(join(allowed, 'model/dir'));
  const read = async () => {
    const opened = await source.open('dir', call());
    for await (const chunk of opened.body) expect(chunk).toBeDefined();
  };
  await expect(read()).rejects.toBeInstanceOf(Error);
});

test('a named pipe is refused, since opening it would wait for ever for somebody who writes', async () => {
  const { allowed, source } = await directories();
  const pipe = join(allowed, 'model/pipe');
  await promisify(execFile)('mkfifo', [pipe]);
  const outcome = source
    .list('', call())
    .then(() => source.open('pipe', call()))
    .then(opened => opened.close())
    .catch((error: unknown) => error);
  const late = new Promise(resolve => setTimeout(resolve, 500, 'it waits'));
  const first = await Promise.race([outcome, late]);
  // Lets go of whoever waits.
  await (await open(pipe, 'r+')).close();
  expect(first).toBeInstanceOf(SidecarError);
});
