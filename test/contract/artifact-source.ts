import { describe, expect, test } from 'vitest';
import type { ArtifactSource } from '../../src/artifacts/source.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { call } from '../upstream/support.ts';

export type Files = Readonly<Record<string, Buffer>>;

/** Makes a source over a root that holds these files; cleaned up at the test's end. */
export type MakeSource = (files: Files) => Promise<ArtifactSource>;

const BINARY = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n % 251));
const FILES: Files = {
  MLmodel: Buffer.from('flavors: {}\n'),
  empty: Buffer.alloc(0),
  'a b/ü %25 #?&+.txt': Buffer.from('name'),
  'data/deep/er/model.bin': BINARY,
};

/** What every source of artifacts does. */
export function anArtifactSource(name: string, make: MakeSource): void {
  describe(name, () => {
    test('has the root that it was made for', async () => {
      expect((await make(FILES)).root).toMatch(/./);
    });

    test('lists one level: names, what is a directory, and sizes', async () => {
      const source = await make(FILES);
      expect(await listed(source, '')).toEqual([
        { name: 'MLmodel', isDir: false, size: 12 },
        { name: 'a b', isDir: true, size: null },
        { name: 'data', isDir: true, size: null },
        { name: 'empty', isDir: false, size: 0 },
      ]);
      expect(await listed(source, 'data')).toEqual([{ name: 'deep', isDir: true, size: null }]);
      expect(await listed(source, 'data/deep/er')).toEqual([
        { name: 'model.bin', isDir: false, size: BINARY.length },
      ]);
      expect(await listed(source, 'a b')).toEqual([{ name: 'ü %25 #?&+.txt', isDir: false, size: 4 }]);
    });

    test('lists what is missing, and a file, as empty', async () => {
      const source = await make(FILES);
      expect(await listed(source, 'nowhere/at/all')).toEqual([]);
      expect(await listed(source, 'MLmodel')).toEqual([]);
      expect(await listed(await make({}), '')).toEqual([]);
    });

    test.each(Object.keys(FILES))('gives the bytes of %j, and says how many', async path => {
      const source = await make(FILES);
      const opened = await source.open(path, call());
      expect(opened.length).toBe(FILES[path]?.length);
      const bytes = await collect(opened.body);
      expect(bytes.equals(FILES[path] ?? Buffer.alloc(1))).toBe(true);
      opened.close();
    });

    test.each(Object.keys(FILES))('reads %j as a whole, and tells how it comes', async path => {
      const source = await make(FILES);
      const expected = FILES[path] ?? Buffer.alloc(1);
      const told: (number | 'answered')[] = [];
      const progress = {
        answered: () => void told.push('answered'),
        came: (bytes: number) => void told.push(bytes),
      };
      const bytes = await source.read(small(path, expected.length), call(), progress);
      expect(Buffer.from(bytes).equals(expected)).toBe(true);
      expect(told[0]).toBe('answered');
      expect(told.slice(1).reduce<number>((sum, n) => sum + Number(n), 0)).toBe(expected.length);
    });

    test.each([11, 13])('a file of 12 bytes that is listed with %i is artifact_corrupt', async size => {
      const source = await make(FILES);
      await expect(source.read(small('MLmodel', size), call(), SILENT)).rejects.toMatchObject({
        code: 'artifact_corrupt',
      });
    });

    test('a file that is not there is artifact_missing', async () => {
      const source = await make(FILES);
      await expect(source.read(small('nowhere', 1), call(), SILENT)).rejects.toMatchObject({
        code: 'artifact_missing',
      });
      await expect(source.open('nowhere', call())).rejects.toMatchObject({ code: 'artifact_missing' });
      await expect(source.open('MLmodel/nowhere', call())).rejects.toMatchObject({
        code: 'artifact_missing',
      });
    });

    test('a body that nobody reads can be closed, also twice', async () => {
      const source = await make(FILES);
      for (let n = 0; n < 40; n++) {
        const opened = await source.open('data/deep/er/model.bin', call());
        opened.close();
        opened.close();
      }
      expect((await collect((await source.open('MLmodel', call())).body)).toString()).toBe('flavors: {}\n');
    });

    test('a signal that has aborted lets nothing start', async () => {
      const source = await make(FILES);
      const gone = { ...call(), signal: AbortSignal.abort(new SidecarError('internal', 'gone')) };
      await expect(source.list('', gone)).rejects.toThrow('gone');
      await expect(source.read(small('MLmodel', 12), gone, SILENT)).rejects.toBeInstanceOf(Error);
      await expect(
        source.open('data/deep/er/model.bin', gone).then(opened => collect(opened.body)),
      ).rejects.toBeInstanceOf(Error);
    });

    test('a signal that aborts ends a body that is being read', async () => {
      const source = await make(FILES);
      const controller = new AbortController();
      const opened = await source.open('data/deep/er/model.bin', { ...call(), signal: controller.signal });
      const reading = (async () => {
        for await (const chunk of opened.body) {
          expect(chunk.byteLength).toBeGreaterThan(0);
          controller.abort(new SidecarError('artifact_timeout', 'enough'));
        }
      })();
      await expect(reading).rejects.toBeInstanceOf(Error);
      opened.close();
    });
  });
}

const SILENT = { answered: () => undefined, came: () => undefined };

function small(path: string, size: number) {
  return { path, size, isOneOfMany: false };
}

async function listed(source: ArtifactSource, dir: string) {
  const entries = await source.list(dir, call());
  return entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
