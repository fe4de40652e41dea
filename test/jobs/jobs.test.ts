import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
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
async function processOn(dir: string, clock = new ManualClock()): Promise<Process> {
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
    clock,
    events: bus,
  });
  const die = async () => {
    jobs.stop();
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

const waitFor = (process: Process, id: string) => process.jobs.wait(id, 5_000, AbortSignal.timeout(5_000));

test('one that was running is gone on with by the next process, as it was asked for, until the same moment', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  first.clock.advance(20_000);
  await first.die();
  const second = await processOn(dir, first.clock);
  second.jobs.start();
  await vi.waitFor(() => expect(second.requests).toHaveLength(1));
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
  await vi.waitFor(() => expect(second.requests).toHaveLength(1));
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
  const waiting = waitFor(beside, id);
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
  expect(await beside.jobs.wait(id, 100, AbortSignal.timeout(5_000))).toMatchObject({ end: null });
  expect(beside.requests).toEqual([]);
});

test('an end is kept for a day, in memory and on the disk', async () => {
  const dir = await temporaryDirectory();
  const first = await processOn(dir);
  const { id } = await first.jobs.begin(request());
  first.end();
  await waitFor(first, id);
  await vi.waitFor(async () =>
    expect(await readFile(join(dir, 'v1/state/jobs', `${id}.json`), 'utf8')).toContain('"loaded"'),
  );
  first.clock.advance(DAY_MS + 1_000);
  const second = await processOn(dir, first.clock);
  expect(await second.jobs.find(id)).toBeNull();
  second.jobs.start();
  await vi.waitFor(async () => expect(await readdir(join(dir, 'v1/state/jobs'))).toEqual([]));
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
  first.jobs.stop();
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
