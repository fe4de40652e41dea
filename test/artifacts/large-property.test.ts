import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { PartLimits } from '../../src/artifacts/large.ts';
import { openStore } from '../store/support.ts';
import { drive, FileServer, MIB, sha256 } from './large-support.ts';

const PARTS: PartLimits = { above: 4 * MIB, size: 2 * MIB, inFlight: 4 };
const IN_ONE_GO: PartLimits = { ...PARTS, above: Number.POSITIVE_INFINITY };
const SIZE = 14 * MIB + 123;

test('whatever is cut and whenever the file changes, what is committed is one version, whole', async () => {
  const versions = [0, 1, 2].map(() => randomBytes(SIZE));
  const whole = new Set(versions.map(sha256));
  const acts = fc.array(
    fc.record({
      cutAfter: fc.option(fc.integer({ min: 0, max: 12 * MIB }), { nil: undefined }),
      change: fc.boolean(),
      ignoresIfRange: fc.boolean(),
      ignoresRange: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  let committed = 0;
  await fc.assert(
    fc.asyncProperty(acts, fc.boolean(), async (script, inParts) => {
      const server = new FileServer(versions[0] ?? Buffer.alloc(0));
      const source = await server.source();
      const opened = await openStore();
      let now = 0;
      server.act = (_, n) => {
        const { cutAfter, change, ...rest } = script[n] ?? {};
        if (change === true) server.content = versions[++now % versions.length] ?? server.content;
        return cutAfter === undefined ? rest : { ...rest, cutAfter };
      };
      for (let run = 0; run < 3; run++) {
        const done = await drive(opened.store, source, {
          size: SIZE,
          parts: inParts ? PARTS : IN_ONE_GO,
        }).catch(() => null);
        if (done === null) continue;
        committed++;
        expect(whole).toContain(done.sha256);
        expect(sha256(await readFile(opened.store.layout.blob(done.sha256)))).toBe(done.sha256);
        break;
      }
      await opened.store.close();
    }),
    { numRuns: 10 },
  );
  expect(committed).toBeGreaterThan(3);
}, 60_000);
