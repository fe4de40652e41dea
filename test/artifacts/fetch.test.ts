import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { fetchAll } from '../../src/artifacts/fetch.ts';
import { DownloadLimits, FILES_IN_FLIGHT } from '../../src/artifacts/limits.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { FairLimit } from '../../src/policy/fair-limit.ts';
import { atMost } from '../support/limits.ts';
import { call } from '../upstream/support.ts';
import { chunks, fetchOptions, intakeOf, listedFiles, Scripted } from './support.ts';

const PATHS = Array.from({ length: 100 }, (_, n) => `f${n}`);

function timers(): number {
  return process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length;
}

test('every file is fetched once, with the size and hash of what came', async () => {
  const source = new Scripted({});
  const files = await fetchAll(listedFiles(source, PATHS), fetchOptions(), call());
  expect(source.opened.toSorted()).toEqual(PATHS.toSorted());
  expect(source.closed).toBe(PATHS.length);
  const expected = PATHS.map(path => ({
    path,
    size: path.length,
    sha256: createHash('sha256').update(path).digest('hex'),
  }));
  expect(files.toSorted((a, b) => PATHS.indexOf(a.path) - PATHS.indexOf(b.path))).toEqual(expected);
});

test('no files at all are no work', async () => {
  await expect(fetchAll([], fetchOptions(), call())).resolves.toEqual([]);
});

describe('in flight', () => {
  function counting() {
    const seen = { now: 0, most: 0 };
    async function* body() {
      seen.most = Math.max(seen.most, ++seen.now);
      await sleep(3);
      yield new Uint8Array(1);
      seen.now--;
    }
    return { seen, source: new Scripted({}, () => body()) };
  }

  test('are 12 files of one run, so that another can begin, and never more', async () => {
    const { seen, source } = counting();
    await fetchAll(listedFiles(source, PATHS), fetchOptions(), call());
    expect(seen.most).toBe(12);
    expect(FILES_IN_FLIGHT).toBe(16);
  });

  test('are 16 files over all runs together', async () => {
    const { seen, source } = counting();
    const limit = new FairLimit(FILES_IN_FLIGHT);
    const runs = [1, 2, 3].map(run =>
      fetchAll(
        listedFiles(source, PATHS.slice(0, 30)),
        fetchOptions({ slots: limit.forRun(), scope: String(run) }),
        call(),
      ),
    );
    await Promise.all(runs);
    expect(seen.most).toBe(16);
  });
});

describe('small files', () => {
  /** Each answers at once, and is whole when it is told to be. */
  function answering() {
    const seen = { now: 0, most: 0 };
    const rest = Promise.withResolvers<void>();
    const source = new Scripted({}, path => {
      seen.most = Math.max(seen.most, ++seen.now);
      return (async function* () {
        await rest.promise;
        seen.now--;
        yield Buffer.from(path);
      })();
    });
    const listed = (count: number) =>
      listedFiles(source, PATHS.slice(10, 10 + count)).map(file => ({ ...file, size: 3 }));
    return { seen, rest, listed };
  }

  test('of many give their slot back when they are answered, up to 32 at once', async () => {
    const { seen, rest, listed } = answering();
    const fetching = fetchAll(listed(90), fetchOptions(), call());
    await expect.poll(() => seen.now).toBe(32 + 12);
    await sleep(30);
    expect(seen.now).toBe(32 + 12);
    rest.resolve();
    await expect(fetching).resolves.toHaveLength(90);
  });

  test('that are few keep it: each has a connection of its own, which sends at once', async () => {
    const { seen, rest, listed } = answering();
    const fetching = fetchAll(listed(40), fetchOptions(), call());
    await expect.poll(() => seen.now).toBe(12);
    await sleep(30);
    expect(seen.now).toBe(12);
    rest.resolve();
    await expect(fetching).resolves.toHaveLength(40);
  });
});

test('of large files no more are under way than may wait for a disk that hangs', async () => {
  let underWay = 0;
  const hanging = Promise.withResolvers<never>();
  const partial = () => {
    underWay++;
    return hanging.promise;
  };
  const large = listedFiles(new Scripted({}), PATHS).map(file => ({ ...file, size: 9 * 1024 * 1024 }));
  const limits = new DownloadLimits();
  const runs = [1, 2, 3].map(run =>
    fetchAll(
      large,
      fetchOptions({
        intake: { ...intakeOf(async () => ({ size: 0, sha256: '' })), partial },
        ...limits.forRun(),
        scope: String(run),
      }),
      call(),
    ),
  );
  await sleep(30);
  // 18, 4 and 1, of 24: one is left for a fourth run.
  expect(underWay).toBe(23);
  hanging.reject(new SidecarError('internal', 'The disk is gone.'));
  const ended = await Promise.allSettled(runs);
  expect(ended.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
});

test('while the disk takes none, no more small files are asked for than may be in memory over all runs', async () => {
  const source = new Scripted({});
  const disk = Promise.withResolvers<void>();
  const bodies = new FairLimit(8);
  const slow = {
    ...intakeOf(async () => ({ size: 2, sha256: '' })),
    takeBytes: () => disk.promise.then(() => ({ size: 2, sha256: '' })),
  };
  const small = listedFiles(source, PATHS.slice(10, 40)).map(file => ({ ...file, size: 3 }));
  const runs = [1, 2].map(run =>
    fetchAll(small, fetchOptions({ intake: slow, bodies: bodies.forRun(), scope: String(run) }), call()),
  );
  await sleep(50);
  // Six of the first run, which leaves room, and one of the second.
  expect(source.opened).toHaveLength(7);
  disk.resolve();
  await Promise.all(runs);
  expect(source.opened).toHaveLength(60);
});

describe('a failure', () => {
  const BAD = new SidecarError('artifact_missing', 'f7 is not there');

  /** The others never end by themselves. */
  function failingAt(path: string) {
    let waiting = 0;
    async function* silent(signal: AbortSignal): AsyncGenerator<Uint8Array> {
      waiting++;
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      yield new Uint8Array(1);
    }
    async function* fails(): AsyncGenerator<Uint8Array> {
      await sleep(20);
      yield* [];
      throw BAD;
    }
    const source = new Scripted({}, (name, signal) => (name === path ? fails() : silent(signal)));
    return { source, waiting: () => waiting };
  }

  test('ends the others at once, and is the one that is told', async () => {
    const { source, waiting } = failingAt('f7');
    const startedAt = performance.now();
    await expect(fetchAll(listedFiles(source, PATHS), fetchOptions(), call())).rejects.toBe(BAD);
    expect(performance.now() - startedAt).toBeLessThan(atMost(500));
    expect(waiting()).toBe(11);
    expect(source.opened).toHaveLength(12);
    expect(source.closed).toBe(12);
  });

  test('is told only when nobody writes any more', async () => {
    let writing = 0;
    const { source } = failingAt('f7');
    const take = async (body: AsyncIterable<Uint8Array>) => {
      writing++;
      try {
        for await (const chunk of body) expect(chunk.byteLength).toBe(1);
      } finally {
        await sleep(30);
        writing--;
      }
      return { size: 1, sha256: '' };
    };
    const options = fetchOptions({ intake: intakeOf(take) });
    await expect(fetchAll(listedFiles(source, PATHS), options, call())).rejects.toBe(BAD);
    expect(writing).toBe(0);
  });

  test('leaves no timer behind', async () => {
    const before = timers();
    const { source } = failingAt('f7');
    await expect(fetchAll(listedFiles(source, PATHS), fetchOptions(), call())).rejects.toBe(BAD);
    expect(timers()).toBeLessThanOrEqual(before);
  });

  test('of the call itself ends all with its reason', async () => {
    const { source } = failingAt('none');
    const controller = new AbortController();
    const fetching = fetchAll(listedFiles(source, PATHS), fetchOptions(), {
      ...call(),
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(new SidecarError('artifact_timeout', 'the run is over')), 20);
    await expect(fetching).rejects.toMatchObject({ code: 'artifact_timeout', message: 'the run is over' });
    expect(source.closed).toBe(12);
  });
});

test('a file that broke off is tried again after 2 s or more, and the second try counts', async () => {
  let tries = 0;
  async function* breaking() {
    yield Buffer.from('hal');
    throw new SidecarError('artifact_corrupt', 'broke off');
  }
  const source = new Scripted({}, () => (tries++ === 0 ? breaking() : chunks('whole')));
  const startedAt = performance.now();
  const [file] = await fetchAll(listedFiles(source, ['MLmodel']), fetchOptions(), call());
  expect(file).toMatchObject({ path: 'MLmodel', size: 5 });
  expect(performance.now() - startedAt).toBeGreaterThan(1_990);
  expect(source.closed).toBe(2);
});

test('a file whose Content-Length is not the listed size is artifact_corrupt before a byte is taken', async () => {
  let taken = 0;
  const source = new Scripted({}, () => chunks('longer'), 'r', 6);
  const take = async () => {
    taken++;
    return { size: 6, sha256: '' };
  };
  const signal = AbortSignal.timeout(200);
  const told: string[] = [];
  const options = fetchOptions({ intake: intakeOf(take) });
  options.events.subscribe(event => {
    if (event.type === 'try_failed') told.push(event.error.message);
  });
  const files = [{ path: 'MLmodel', size: 5, source }];
  await expect(fetchAll(files, options, { ...call(), signal })).rejects.toBeInstanceOf(Error);
  expect(told).toEqual(['MLmodel has 6 bytes, but the listing says 5.']);
  expect(taken).toBe(0);
});

test('a trickle below the floor is artifact_timeout once the window is over', async () => {
  async function* trickle(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    while (!signal.aborted) {
      await sleep(50);
      yield new Uint8Array(1);
    }
    throw signal.reason;
  }
  const source = new Scripted({}, (_, signal) => trickle(signal));
  const floor = { bytesPerSecond: 65_536, windowS: 1 };
  const startedAt = performance.now();
  await expect(
    fetchAll(listedFiles(source, ['MLmodel']), fetchOptions({ floor }), call()),
  ).rejects.toMatchObject({
    code: 'artifact_timeout',
    message: 'The artifacts came at less than 64 KiB/s for 1 s.',
  });
  expect(performance.now() - startedAt).toBeLessThan(atMost(2_500));
});
