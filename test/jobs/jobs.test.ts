import { readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { type Outcome, warningOf } from '../../src/domain/outcome.ts';
import type { JobRequest } from '../../src/jobs/api.ts';
import { KeptJobs } from '../../src/jobs/jobs.ts';
import { JobRecords } from '../../src/jobs/records.ts';
import type { Reloader, ReloadRequest } from '../../src/reload/api.ts';
import { Cache } from '../../src/store/cache.ts';
import { ManualClock } from '../reload/support.ts';
import { OWN, temporaryDirectory } from '../store/support.ts';
import { atMost, SOON } from '../support/limits.ts';
import { outcome } from '../support/outcome.ts';

const DAY_MS = 24 * 3_600_000;

interface Process {
  readonly jobs: KeptJobs;
  readonly clock: ManualClock;
  readonly requests: readonly ReloadRequest[];
  readonly events: readonly SidecarEvent[];
  /** Ends what runs, and what comes. */
  readonly end: (status?: Outcome['status']) => void;
  /** As kill -9 does it, as far as others can see. */
  readonly die: () => Promise<void>;
}

/** One that works on the directory. */
async function processOn(dir: string, clock = new ManualClock(), scope = 'own'): Promise<Process> {
  const bus = new EventBus();
  const events: SidecarEvent[] = [];
  bus.subscribe(event => events.push(event));
  const cache = new Cache({ dir, own: OWN, clock, events: bus });
  await cache.open();
  const requests: ReloadRequest[] = [];
  const ending = Promise.withResolvers<Outcome['status']>();
  const reloader: Reloader = {
    reload: async asked => {
      requests.push(asked);
      return outcome({ status: await ending.promise, job_id: asked.caller.jobId ?? null });
    },
    refuse: (_, error) => outcome({ status: 'failed', path: null, warning: warningOf(error) }),
  };
  const jobs = new KeptJobs({
    records: new JobRecords(cache, bus),
    reloader,
    scope,
    clock,
    events: bus,
  });
  const die = async () => {
    await jobs.stop();
    await cache.close();
  };
  onTestFinished(die);
  return { jobs, clock, requests, events, end: (status = 'loaded') => ending.resolve(status), die };
}

function request(change: Partial<JobRequest> = {}): JobRequest {
  return {
    uris: [parseModelUri('models:/a/Production')],
    isList: false,
    caller: { requestId: 'r-1', airflow: { dag_id: 'd' }, authorization: null },
    startedAt: 5_000,
    deadlineAt: 65_000,
    refreshWaitMs: 2_000,
    maxStaleMs: 604_800_000,
    force: true,
    ...change,
  };
}

/** Ten seconds go by, for those who look from time to time. */
const look = () => vi.advanceTimersByTimeAsync(10_000);
const filesOf = (dir: string) => readdir(join(dir, 'v1/state/jobs'));
const quiet = () => new Promise(resolve => setTimeout(resolve, 50));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});

afterEach(() => {
  vi.useRealTimers();
});

const waitFor = (process: Process, id: string) => process.jobs.wait(id, 20_000, AbortSignal.timeout(20_000));

test('one that was running is gone on with by the next process, as it was asked for, until the same moment', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  first.clock.advance(20_000);
  await first.die();
  const second = await processOn(dir, first.clock);
  second.jobs.start();
  await vi.waitFor(() => expect(second.requests).toHaveLength(1), SOON);
  const [resumed] = second.requests;
  expect(resumed).toMatchObject({
    uri: { name: 'a', stage: 'Production' },
    caller: { requestId: 'r-1', airflow: { dag_id: 'd' }, authorization: null, jobId: id },
    refreshWaitMs: 2_000,
    maxStaleMs: 604_800_000,
    force: true,
  });
  expect((resumed?.deadlineAt ?? 0) - second.clock.monotonic()).toBeCloseTo(40_000, 0);
  expect(second.events).toContainEqual(expect.objectContaining({ type: 'job_begun', isResumed: true }));
  second.end();
  expect(await waitFor(second, id)).toMatchObject({ end: { outcomes: [{ status: 'loaded', job_id: id }] } });
});

test('MLflow has its time to answer, also where the deadline passed meanwhile', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  await first.jobs.begin(request());
  await first.die();
  first.clock.advance(DAY_MS);
  const second = await processOn(dir, first.clock);
  second.jobs.start();
  await vi.waitFor(() => expect(second.requests).toHaveLength(1), SOON);
  expect((second.requests[0]?.deadlineAt ?? 0) - second.clock.monotonic()).toBe(2_000);
});

test('it is gone on with as soon as somebody asks, even before the process has looked for any', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  await first.die();
  const second = await processOn(dir);
  const found = await Promise.all([second.jobs.find(id), second.jobs.find(id)]);
  expect(found).toMatchObject([{ end: null }, { end: null }]);
  expect(second.requests).toHaveLength(1);
});

test('one by a caller’s own credential fails after a restart, and the credential is on no disk', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const caller = { requestId: 'r', airflow: {}, authorization: 'Bearer s3cret' };
  const { id } = await first.jobs.begin(request({ caller }));
  expect(first.requests[0]?.caller.authorization).toBe('Bearer s3cret');
  expect(await readFile(join(dir, 'v1/state/jobs', `${id}.json`), 'utf8')).not.toContain('s3cret');
  await first.die();
  const second = await processOn(dir);
  expect(await waitFor(second, id)).toMatchObject({
    end: { outcomes: [{ warning: { code: 'access_denied' } }] },
  });
  expect(second.requests).toEqual([]);
});

test('one that has ended is known to the next process, and to one beside it', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const beside = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  expect(await beside.jobs.find(id)).toEqual({ id, isList: false, end: null });
  const startedAt = performance.now();
  const waiting = waitFor(beside, id).finally(() =>
    expect(performance.now() - startedAt).toBeLessThan(atMost(2_500)),
  );
  first.end('unchanged');
  const expected = { end: { outcomes: [{ status: 'unchanged' }] } };
  expect(await waiting).toMatchObject(expected);
  await first.die();
  expect(await (await processOn(dir)).jobs.find(id)).toMatchObject(expected);
  expect(beside.requests).toEqual([]);
});

test('what other processes work on is left to them', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  const beside = await processOn(dir);
  beside.jobs.start();
  expect(await beside.jobs.wait(id, 5_000, AbortSignal.timeout(300))).toMatchObject({ end: null });
  expect(beside.requests).toEqual([]);
});

test('an end is kept for a day, in memory and on the disk', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  first.end();
  await waitFor(first, id);
  await vi.waitFor(
    async () =>
      expect(await readFile(join(dir, 'v1/state/jobs', `${id}.json`), 'utf8')).toContain('"loaded"'),
    SOON,
  );
  first.clock.advance(DAY_MS + 1_000);
  const second = await processOn(dir, first.clock);
  expect(await first.jobs.find(id)).toBeNull();
  expect(await second.jobs.find(id)).toBeNull();
  second.jobs.start();
  await vi.waitFor(async () => expect(await readdir(join(dir, 'v1/state/jobs'))).toEqual([]), SOON);
});

test('a damaged record is no job', async () => {
  const dir = await temporaryDirectory();
  const { jobs } = await processOn(dir);
  const id = '00000000-0000-4000-8000-000000000000';
  for (const text of ['', '{"format":1}', '[]']) {
    await writeFile(join(dir, 'v1/state/jobs', `${id}.json`), text);
    expect(await jobs.find(id)).toBeNull();
  }
});

test('whoever waits is answered when the process is told to stop, and what was broken off is no end', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  const waiting = waitFor(first, id);
  await first.jobs.stop();
  expect(await waiting).toMatchObject({ end: null });
  first.end('failed');
  await first.die();
  const second = await processOn(dir);
  second.end('loaded');
  expect(await waitFor(second, id)).toMatchObject({ end: { outcomes: [{ status: 'loaded' }] } });
});

test('without a directory that can be written they are kept in memory', async () => {
  const dir = join(await temporaryDirectory(), 'file');
  await writeFile(dir, 'in the way');
  const only = await processOn(dir);
  const { id } = await only.jobs.begin(request());
  only.end();
  expect(await waitFor(only, id)).toMatchObject({ end: { outcomes: [{ status: 'loaded' }] } });
});

describe('one that was removed', () => {
  test('stays away, whoever asks meanwhile, and its record goes', async () => {
    const dir = await temporaryDirectory();
    const only = await processOn(dir);
    const begun = await Promise.all(Array.from({ length: 20 }, () => only.jobs.begin(request())));
    for (const { id } of begun) {
      const [removed] = await Promise.all([only.jobs.remove(id), only.jobs.find(id), only.jobs.find(id)]);
      expect(removed).toBe(true);
      expect(await only.jobs.find(id)).toBeNull();
      expect(await only.jobs.remove(id)).toBe(false);
    }
    expect([only.jobs.running, only.requests.length]).toEqual([0, 20]);
    expect(only.requests.every(({ unwanted }) => unwanted?.aborted)).toBe(true);
    expect(await filesOf(dir)).toEqual([]);
  });

  test('stays away where it ends at that moment', async () => {
    const dir = await temporaryDirectory();
    const only = await processOn(dir);
    const { id } = await only.jobs.begin(request());
    const removing = only.jobs.remove(id);
    only.end();
    expect(await removing).toBe(true);
    await quiet();
    expect([await only.jobs.find(id), await filesOf(dir)]).toEqual([null, []]);
  });

  test('ends at once whoever waits for it', async () => {
    const only = await processOn(await temporaryDirectory());
    const { id } = await only.jobs.begin(request());
    const startedAt = performance.now();
    const waiting = waitFor(only, id);
    await only.jobs.remove(id);
    expect(await waiting).toBeNull();
    expect(performance.now() - startedAt).toBeLessThan(atMost(1_000));
  });

  test('at another process is removed where it runs, too', async () => {
    const dir = await temporaryDirectory();
    const first = await processOn(dir);
    first.jobs.start();
    const { id } = await first.jobs.begin(request());
    const beside = await processOn(dir);
    expect(await beside.jobs.remove(id)).toBe(true);
    await look();
    await vi.waitFor(() => expect(first.requests[0]?.unwanted?.aborted).toBe(true), SOON);
    first.end();
    await quiet();
    expect([await first.jobs.find(id), await beside.jobs.find(id), await filesOf(dir)]).toEqual([
      null,
      null,
      [],
    ]);
  });

  test('at another process does not come back by its end', async () => {
    const dir = await temporaryDirectory();
    const first = await processOn(dir);
    const { id } = await first.jobs.begin(request());
    expect(await (await processOn(dir)).jobs.remove(id)).toBe(true);
    first.end();
    await quiet();
    expect(await filesOf(dir)).toEqual([]);
  });
});

test('one that a process left is removed without being begun again', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  await first.die();
  const second = await processOn(dir);
  expect(await second.jobs.remove(id)).toBe(true);
  expect([second.requests, await second.jobs.find(id), await filesOf(dir)]).toEqual([[], null, []]);
});

describe('where the disk does not say', () => {
  const ID = '00000000-0000-4000-8000-000000000000';

  test('nobody is told that there is no such job', async () => {
    const dir = join(await temporaryDirectory(), 'file');
    await writeFile(dir, 'in the way');
    const { jobs } = await processOn(dir);
    await expect(jobs.find(ID)).rejects.toMatchObject({ code: 'overloaded' });
    await expect(jobs.remove(ID)).rejects.toMatchObject({ code: 'overloaded' });
  });

  test('what a process left is looked for again', async () => {
    const dir = await temporaryDirectory();
    const first = await processOn(dir);
    await first.jobs.begin(request());
    await first.die();
    const [jobs, away] = [join(dir, 'v1/state/jobs'), join(dir, 'away')];
    const second = await processOn(dir);
    await rename(jobs, away);
    await symlink(jobs, jobs);
    second.jobs.start();
    await quiet();
    expect(second.requests).toEqual([]);
    expect(second.events.filter(({ type }) => type === 'cache_unusable')).toHaveLength(1);
    await rm(jobs);
    await rename(away, jobs);
    await look();
    await vi.waitFor(() => expect(second.requests).toHaveLength(1), SOON);
  });

  test('an end that could not be saved is saved later', async () => {
    const dir = await temporaryDirectory();
    const first = await processOn(dir);
    first.jobs.start();
    const { id } = await first.jobs.begin(request());
    const [jobs, away] = [join(dir, 'v1/state/jobs'), join(dir, 'away')];
    await rename(jobs, away);
    await symlink(jobs, jobs);
    first.end();
    await waitFor(first, id);
    await quiet();
    await rm(jobs);
    await rename(away, jobs);
    await look();
    const beside = await processOn(dir);
    await vi.waitFor(
      async () =>
        expect(await beside.jobs.find(id)).toMatchObject({ end: { outcomes: [{ status: 'loaded' }] } }),
      SOON,
    );
  });
});

test('one that is about another registry is not for this sidecar', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  await first.die();
  const other = await processOn(dir, first.clock, 'another registry');
  other.jobs.start();
  expect(await other.jobs.find(id)).toBeNull();
  expect(await other.jobs.remove(id)).toBe(false);
  await look();
  expect(other.requests).toEqual([]);
  expect(await (await processOn(dir, first.clock)).jobs.find(id)).toMatchObject({ id });
});

test('one that is overdue is taken over, whatever its process seems to be, and that one gives it up', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  first.jobs.start();
  const { id } = await first.jobs.begin(request());
  const beside = await processOn(dir, first.clock);
  first.clock.advance(119_000);
  await beside.jobs.find(id);
  expect(beside.requests).toEqual([]);
  first.clock.advance(2_000);
  await beside.jobs.find(id);
  expect(beside.requests).toHaveLength(1);
  await look();
  await vi.waitFor(() => expect(first.requests[0]?.unwanted?.aborted).toBe(true), SOON);
  expect(first.jobs.running).toBe(0);
});

test('one that ends its process each time is gone on with three times', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  let last = first;
  for (const _ of [1, 2, 3]) {
    await last.die();
    last = await processOn(dir, first.clock);
    expect(await last.jobs.find(id)).toMatchObject({ end: null });
    expect(last.requests).toHaveLength(1);
  }
  await last.die();
  last = await processOn(dir, first.clock);
  expect(await waitFor(last, id)).toMatchObject({ end: { outcomes: [{ warning: { code: 'internal' } }] } });
});

test('a clock that was set back gives it no more time than was asked for', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  await first.jobs.begin(request());
  await first.die();
  first.clock.advance(-7_200_000);
  const second = await processOn(dir, first.clock);
  second.jobs.start();
  await vi.waitFor(() => expect(second.requests).toHaveLength(1), SOON);
  expect((second.requests[0]?.deadlineAt ?? 0) - (second.requests[0]?.startedAt ?? 0)).toBeCloseTo(60_000, 0);
});

test('a process that stops takes none in, and an end just before is saved', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  first.end('unchanged');
  await waitFor(first, id);
  await first.die();
  await expect(first.jobs.begin(request())).rejects.toMatchObject({ code: 'overloaded' });
  const second = await processOn(dir);
  expect(await second.jobs.find(id)).toMatchObject({ end: { outcomes: [{ status: 'unchanged' }] } });
  expect(second.requests).toEqual([]);
});

test('the same reload of the same try of a task is the same job while it runs', async () => {
  const only = await processOn(await temporaryDirectory());
  const airflow = { dag_id: 'd', dag_run_id: 'r', task_id: 't', try_number: '1' };
  const by = (change: object, force = true) =>
    only.jobs.begin(
      request({ force, caller: { requestId: 'x', airflow: { ...airflow, ...change }, authorization: null } }),
    );
  const { id } = await by({});
  expect((await by({})).id).toBe(id);
  const others = [
    await by({ try_number: '2' }),
    await by({ map_index: '3' }),
    await by({}, false),
    await only.jobs.begin(request()),
  ];
  expect(new Set([id, ...others.map(job => job.id)]).size).toBe(5);
  expect(only.requests).toHaveLength(5);
  only.end();
  await waitFor(only, id);
  expect((await by({})).id).not.toBe(id);
});

test('what a job was never overwrites its end', async () => {
  const dir = await temporaryDirectory();
  const only = await processOn(dir);
  only.end();
  const begun = await Promise.all(Array.from({ length: 50 }, () => only.jobs.begin(request())));
  await Promise.all(begun.map(({ id }) => waitFor(only, id)));
  await only.die();
  const texts = await Promise.all(
    begun.map(({ id }) => readFile(join(dir, 'v1/state/jobs', `${id}.json`), 'utf8')),
  );
  expect(texts.filter(text => !text.includes('"loaded"'))).toEqual([]);
});
