import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import type { Outcome } from '../../src/domain/outcome.ts';
import type { ReloadRequest } from '../../src/reload/api.ts';
import { atMost, SOON } from '../support/limits.ts';
import { outcome } from '../support/outcome.ts';
import {
  call,
  closedJobs,
  failure,
  faulty,
  form,
  members,
  namedBy,
  post,
  problem,
  type Reply,
  sidecar,
  uris,
} from './support.ts';

const URI = 'models:/a/Production';
const UNKNOWN = '00000000-0000-4000-8000-000000000000';

const Begun = z.object({ job_id: z.uuid(), status_url: z.string(), result_url: z.string() });
const begun = (reply: Reply) => Begun.parse(members(reply));

const endless = () => new Promise<never>(() => undefined);

/** A sidecar whose reloads end when they are told to. */
async function led() {
  const end = Promise.withResolvers<Partial<Outcome>>();
  const reload = async (request: ReloadRequest) => outcome({ ...namedBy(request), ...(await end.promise) });
  return {
    ...(await sidecar({ reload })),
    end: (overrides: Partial<Outcome> = {}) => end.resolve(overrides),
  };
}

const start = async (url: string, body: object = { model_uri: URI }) =>
  begun(await post(`${url}/v1/reload`, { mode: 'async', ...body }));

test('is taken in at once, with relative addresses', async () => {
  const { url } = await led();
  const reply = await post(`${url}/v1/reload?async=true`, { model_uri: URI });
  const { job_id: id } = begun(reply);
  expect([reply.status, reply.headers.get('location')]).toEqual([202, `/v1/jobs/${id}`]);
  expect(reply.headers.get('preference-applied')).toBeNull();
  expect(members(reply)).toEqual({
    job_id: id,
    done: false,
    status: 'pending',
    status_url: `/v1/jobs/${id}`,
    result_url: `/v1/jobs/${id}/result`,
    outcome: null,
  });
});

test('says that a preference was heeded', async () => {
  const { url } = await led();
  const reply = await post(`${url}/v1/reload`, { model_uri: URI }, { prefer: 'respond-async' });
  expect(reply.headers.get('preference-applied')).toBe('respond-async');
});

test('the model’s own route begins one, too', async () => {
  const { url, requests } = await led();
  const reply = await form(`${url}/v1/models/a/reload`, 'stage=Production&mode=async');
  expect(reply.status).toBe(202);
  expect(requests.map(namedBy)).toMatchObject([{ model_uri: URI, job_id: begun(reply).job_id }]);
});

test('has the longest deadline unless told', async () => {
  const { url, requests } = await led();
  await start(url);
  await start(url, { model_uri: URI, deadline_s: 5 });
  expect(requests.map(({ startedAt, deadlineAt }) => (deadlineAt - startedAt) / 1_000)).toEqual([600, 5]);
});

test('ends with what a synchronous reload would have answered', async () => {
  const { url, end } = await led();
  const job = await start(url);
  const running = await call(url + job.status_url);
  expect([running.status, members(running)]).toEqual([
    200,
    { ...job, done: false, status: 'pending', outcome: null },
  ]);
  end();
  const ended = await call(`${url}${job.status_url}?wait_s=5`);
  const expected = { status: 'loaded', model_uri: URI, job_id: job.job_id };
  expect(ended.status).toBe(200);
  expect(members(ended)).toMatchObject({ ...job, done: true, status: 'loaded', outcome: expected });
  const result = await call(url + job.result_url);
  expect([result.status, members(result)]).toEqual([200, expect.objectContaining(expected)]);
});

test('of several models is one job, which ends with a list', async () => {
  const { url, end } = await led();
  const job = await start(url, { model_uris: [URI, 'models:/b@champion', URI] });
  end();
  const ended = await call(`${url}${job.status_url}?wait_s=5`);
  expect(members(ended)).toMatchObject({
    status: 'loaded',
    outcome: { status: 'loaded', models: [{ name: 'a' }, { name: 'b' }], duration_s: expect.any(Number) },
  });
});

test('a list of one is a list', async () => {
  const { url } = await sidecar({ settings: { models: uris(URI) } });
  const { status_url: path } = begun(await call(`${url}/v1/reload?async=true`, { method: 'POST' }));
  expect(members(await call(`${url}${path}?wait_s=5`))).toMatchObject({
    outcome: { models: [{ name: 'a' }] },
  });
});

test('a result that is not there yet is 404, and no refusal in the log', async () => {
  const { url, events } = await led();
  const job = await start(url);
  const reply = await call(url + job.result_url);
  expect(reply.status).toBe(404);
  expect(problem(reply)).toMatchObject({
    code: 'not_found',
    detail: `The job ${job.job_id} is still running.`,
  });
  expect(events.filter(({ type }) => type === 'request_refused')).toEqual([]);
});

test('a result is 200 whatever the end was, also where the call was to fail', async () => {
  const { url } = await sidecar({ reload: () => failure('missing', 'no_version_in_stage') });
  const job = await start(url, { model_uri: URI, on_failure: 'fail' });
  const reply = await call(`${url}${job.status_url}?wait_s=5`);
  expect([reply.status, members(reply)]).toMatchObject([200, { status: 'missing' }]);
  expect((await call(url + job.result_url)).status).toBe(200);
});

test('a long poll ends with the job, and else when its time is over', async () => {
  const { url, end } = await led();
  const { status_url: path } = await start(url);
  const startedAt = performance.now();
  expect(members(await call(`${url}${path}?wait_s=0.3`))).toMatchObject({ done: false });
  expect(performance.now() - startedAt).toBeGreaterThan(290);
  const polling = call(`${url}${path}?wait_s=9`);
  await delay(50);
  end();
  expect(members(await polling)).toMatchObject({ done: true });
  expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
});

test.each(['241', '-1', 'soon', ''])('wait_s=%j is refused', async text => {
  const { url } = await led();
  const { status_url: path } = await start(url);
  const reply = await call(`${url}${path}?wait_s=${text}`);
  expect([reply.status, faulty(reply)]).toEqual([400, ['wait_s']]);
});

describe('a job that nobody knows', () => {
  test.each([UNKNOWN, 'x', '..%2F..%2Fetc%2Fpasswd'])('%s is 404', async id => {
    const { url } = await sidecar();
    for (const init of [{}, { method: 'DELETE' }]) {
      const reply = await call(`${url}/v1/jobs/${id}`, init);
      expect([reply.status, problem(reply).code]).toEqual([404, 'job_unknown']);
    }
  });

  test('ends a sensor', async () => {
    const { url } = await sidecar();
    const reply = await call(`${url}/v1/jobs/${UNKNOWN}/result`);
    expect(reply.status).toBe(200);
    expect(members(reply)).toMatchObject({ status: 'failed', path: null, warning: { code: 'job_unknown' } });
    const text = await call(`${url}/v1/jobs/${UNKNOWN}/result`, { headers: { accept: 'text/plain' } });
    expect([text.status, text.text]).toEqual([
      200,
      expect.stringMatching(/^❌ job_unknown: There is no job/),
    ]);
  });
});

test('one that was removed is unknown, ends whoever waits for it, and is not wanted any more', async () => {
  const { url, requests } = await led();
  const job = await start(url);
  const polling = call(`${url}${job.status_url}?wait_s=9`);
  await delay(50);
  const reply = await call(url + job.status_url, { method: 'DELETE' });
  expect([reply.status, reply.text]).toEqual([204, '']);
  expect((await polling).status).toBe(404);
  expect((await call(url + job.status_url, { method: 'DELETE' })).status).toBe(404);
  expect(requests[0]?.unwanted?.aborted).toBe(true);
});

test('as text it is the report, or where to ask', async () => {
  const { url, end } = await led();
  const headers = { accept: 'text/plain' };
  const reply = await post(`${url}/v1/reload`, { model_uri: URI, mode: 'async' }, headers);
  const path = /^⏳ Reloading in the background: (\/v1\/jobs\/\S+)\n$/.exec(reply.text)?.[1];
  end();
  const ended = await call(`${url}${path}?wait_s=5`, { headers });
  expect(ended.text).toMatch(/^🔄 Reloading a\.\.\.\n.*✅ Model reload task complete\n$/s);
});

test('more than 2,000 models at once are refused; ends make room, and the oldest are forgotten first', async () => {
  const { url, end } = await led();
  const many = (n: number) => ({
    model_uris: Array.from({ length: 100 }, (_, i) => `models:/m${n}/${i + 1}`),
  });
  const jobs: z.infer<typeof Begun>[] = [];
  for (let n = 0; n < 20; n++) jobs.push(await start(url, many(n)));
  const reply = await post(`${url}/v1/reload`, { model_uri: URI, mode: 'async' });
  expect([reply.status, problem(reply).code]).toEqual([503, 'overloaded']);
  expect(reply.headers.get('retry-after')).not.toBeNull();
  end();
  await vi.waitFor(async () => expect((await call(url + jobs.at(-1)?.result_url)).status).toBe(200), SOON);
  await start(url);
  const statuses = await Promise.all(jobs.map(async job => (await call(url + job.status_url)).status));
  expect(statuses).toEqual([404, ...Array.from({ length: 19 }, () => 200)]);
});

test('a reload that is refused for want of room costs no end', async () => {
  const { url } = await sidecar({
    reload: asked => (asked.uri.kind === 'version' ? endless() : outcome(namedBy(asked))),
  });
  const kept = await start(url);
  await vi.waitFor(async () => expect((await call(url + kept.result_url)).status).toBe(200), SOON);
  const many = (n: number) => ({
    model_uris: Array.from({ length: 100 }, (_, i) => `models:/m${n}/${i + 1}`),
  });
  for (let n = 0; n < 19; n++) await start(url, many(n));
  await start(url, { model_uris: many(19).model_uris.slice(1) });
  const reply = await post(`${url}/v1/reload`, { ...many(20), mode: 'async' });
  expect([reply.status, problem(reply).detail]).toEqual([503, expect.stringContaining('2000 models')]);
  expect((await call(url + kept.result_url)).status).toBe(200);
});

test('while the disk does not say whether there is such a job a sensor waits, and others come back later', async () => {
  const { url } = await sidecar({ jobs: closedJobs() });
  const result = await call(`${url}/v1/jobs/${UNKNOWN}/result`);
  expect([result.status, problem(result).code]).toEqual([404, 'not_found']);
  for (const init of [{}, { method: 'DELETE' }]) {
    const reply = await call(`${url}/v1/jobs/${UNKNOWN}`, init);
    expect([reply.status, problem(reply).code]).toEqual([503, 'overloaded']);
    expect(reply.headers.get('retry-after')).not.toBeNull();
  }
});

test('an address that ends in a slash is no other place', async () => {
  const { url, end } = await led();
  const job = await start(url);
  end();
  expect((await call(`${url}/${job.status_url}?wait_s=5`)).status).toBe(200);
  expect((await call(`${url}/${job.result_url}`)).status).toBe(200);
});

test('another method is refused, and told which there are', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/v1/jobs/${UNKNOWN}`, { method: 'PUT' });
  expect([reply.status, reply.headers.get('allow')]).toEqual([405, 'GET, HEAD, DELETE']);
});
