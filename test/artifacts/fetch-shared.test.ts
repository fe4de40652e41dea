import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Arrivals } from '../../src/artifacts/arrivals.ts';
import { fetchAll } from '../../src/artifacts/fetch.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import type { ManifestFile } from '../../src/domain/manifest.ts';
import { SingleFlight } from '../../src/policy/single-flight.ts';
import { call } from '../upstream/support.ts';
import { chunks, fetchOptions, listedFiles, Scripted } from './support.ts';

const PATHS = Array.from({ length: 100 }, (_, n) => `f${n}`);

describe('a file that two runs want', () => {
  test('is fetched once', async () => {
    const source = new Scripted({}, path =>
      (async function* () {
        await sleep(5);
        yield Buffer.from(path);
      })(),
    );
    const flight: ReturnType<typeof fetchOptions>['flight'] = new SingleFlight();
    const files = listedFiles(source, PATHS);
    const runs = await Promise.all([1, 2, 3].map(() => fetchAll(files, fetchOptions({ flight }), call())));
    expect(source.opened).toHaveLength(PATHS.length);
    expect(runs.map(run => run.length)).toEqual([100, 100, 100]);
  });

  test('is wanted by both', async () => {
    const shared: string[] = [];
    const source = new Scripted({});
    const flight: ReturnType<typeof fetchOptions>['flight'] = new SingleFlight();
    const taking = fetchOptions().intake;
    const runs = ['one', 'two'].map(run => {
      const intake = {
        ...taking,
        share: ({ size }: { size: number }) => void shared.push(`${run} ${size}`),
      };
      return fetchAll(listedFiles(source, ['MLmodel']), fetchOptions({ flight, intake }), call());
    });
    await Promise.all(runs);
    expect(shared.toSorted()).toEqual(['one 7', 'two 7']);
    expect(source.opened).toEqual(['MLmodel']);
  });

  test('is followed by both', async () => {
    const told: string[] = [];
    const source = new Scripted({}, async function* () {
      await sleep(5);
      yield* chunks('MLm', 'odel');
    });
    const shared = { flight: fetchOptions().flight, arrivals: new Arrivals() };
    const runs = ['one', 'two'].map(run => {
      const follower = {
        came: () => void told.push(`${run} came`),
        grows: () => undefined,
        whole: ({ path, size }: ManifestFile) => void told.push(`${run} ${path} ${size}`),
      };
      return fetchAll(listedFiles(source, ['MLmodel']), fetchOptions({ ...shared, follower }), call());
    });
    await Promise.all(runs);
    expect(told.slice(0, 4)).toEqual(['one came', 'two came', 'one came', 'two came']);
    expect(told.slice(4).toSorted()).toEqual(['one MLmodel 7', 'two MLmodel 7']);
    expect(source.opened).toEqual(['MLmodel']);
  });

  test('is fetched for each credential', async () => {
    const source = new Scripted({});
    const flight: ReturnType<typeof fetchOptions>['flight'] = new SingleFlight();
    const files = listedFiles(source, ['MLmodel']);
    const options = ['a', 'b'].map(scope => fetchOptions({ flight, scope }));
    await Promise.all(options.map(one => fetchAll(files, one, call())));
    expect(source.opened).toHaveLength(2);
  });

  test('is fetched again by the one that stays when the one that fetched it is cancelled', async () => {
    let opened = 0;
    const source = new Scripted({}, (_, signal) => {
      opened++;
      return opened > 1
        ? chunks('whole')
        : (async function* () {
            await new Promise((_resolve, reject) =>
              signal.addEventListener('abort', () => reject(signal.reason)),
            );
            yield new Uint8Array(1);
          })();
    });
    const flight: ReturnType<typeof fetchOptions>['flight'] = new SingleFlight();
    const files = listedFiles(source, ['MLmodel']);
    const leaving = new AbortController();
    const first = fetchAll(files, fetchOptions({ flight }), { ...call(), signal: leaving.signal });
    const second = fetchAll(files, fetchOptions({ flight }), call());
    await sleep(10);
    leaving.abort(new SidecarError('artifact_timeout', 'over'));
    await expect(first).rejects.toMatchObject({ code: 'artifact_timeout' });
    expect(await second).toMatchObject([{ path: 'MLmodel', size: 5 }]);
  });
});
