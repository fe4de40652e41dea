import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { MARKER } from '../../src/cli/marker.ts';
import { contentOf, type Files, inMount, isRoot, NOBODY, put, snapshot } from './snapshots.ts';
import { directory } from './support.ts';

const PUT = fileURLToPath(new URL('put.ts', import.meta.url));

describe('killed in the middle', () => {
  const many: Files = {
    ...Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`d${i % 20}/f${i}`, `${i}`])),
    MLmodel: 'last',
  };
  const ROUNDS = 8;

  /** Kills it after `ms`; false where it was done before. */
  async function killed(from: string, dir: string, uid: readonly string[], ms: number): Promise<boolean> {
    const child = spawn(process.execPath, [PUT, from, dir, '1', ...uid], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const said = text(child.stdout);
    await once(child.stdout, 'data');
    await delay(ms);
    child.kill('SIGKILL');
    return !(await said).includes('put\n');
  }

  test('the directory is absent or whole, and the next one finishes and tidies up', async () => {
    const from = snapshot(many);
    let hits = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const parent = directory();
      const dir = join(parent, 'model');
      if (await killed(from, dir, [], round * 4)) hits += 1;
      if (existsSync(dir)) expect(contentOf(dir)).toEqual(many);
      expect(['put', 'up_to_date']).toContain(await put(from, dir));
      expect(contentOf(dir)).toEqual(many);
      expect(readdirSync(parent)).toEqual(['model']);
    }
    expect(hits).toBeGreaterThan(0);
  });

  test('a mount point has no MLmodel or is whole, and the next one finishes and tidies up', async () => {
    const from = snapshot(many);
    let hits = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      await inMount(async dir => {
        if (await killed(from, dir, isRoot ? [String(NOBODY)] : [], round * 8)) hits += 1;
        if (existsSync(join(dir, 'MLmodel'))) expect(contentOf(dir)).toMatchObject(many);
        expect(['put', 'up_to_date']).toContain(await put(from, dir));
        expect(contentOf(dir)).toEqual(many);
        expect(readdirSync(dir).filter(name => name.startsWith('.'))).toEqual([MARKER]);
      });
    }
    expect(hits).toBeGreaterThan(0);
  });

  const old: Files = {
    ...Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`e${i}/f`, ''])),
    MLmodel: 'old',
  };
  const newest: Files = { MLmodel: 'newest', x: '' };

  test('a replaced directory is absent, the old or the new one, and the next one finishes', async () => {
    const from = [snapshot(old), snapshot(many), snapshot(newest)] as const;
    let hits = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const parent = directory();
      const dir = join(parent, 'model');
      await put(from[0], dir, { version: '0' });
      if (await killed(from[1], dir, [], 30 + round * 6)) hits += 1;
      if (existsSync(dir)) expect([old, many]).toContainEqual(contentOf(dir));
      expect(await put(from[2], dir, { version: '2' })).toBe('put');
      expect(contentOf(dir)).toEqual(newest);
      expect(readdirSync(parent)).toEqual(['model']);
    }
    expect(hits).toBeGreaterThan(0);
  });

  test('a replaced mount point has no MLmodel or is one of both, and a still newer one finishes', async () => {
    const from = [snapshot(old), snapshot(many), snapshot(newest)] as const;
    let hits = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      await inMount(async dir => {
        await put(from[0], dir, { version: '0' });
        if (await killed(from[1], dir, isRoot ? [String(NOBODY)] : [], 30 + round * 6)) hits += 1;
        if (existsSync(join(dir, 'MLmodel'))) {
          const { MLmodel: which } = contentOf(dir);
          expect(contentOf(dir)).toMatchObject(which === 'old' ? old : many);
        }
        expect(await put(from[2], dir, { version: '2' })).toBe('put');
        expect(contentOf(dir)).toEqual(newest);
      });
    }
    expect(hits).toBeGreaterThan(0);
  });
});
