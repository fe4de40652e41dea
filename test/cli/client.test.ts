import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { directory, run, server } from './support.ts';

const REPORT = '🔄 Reloading a...\n✅ Model reload task complete\n';
const UNAUTHORIZED = {
  status: 401,
  type: 'application/problem+json',
  body: JSON.stringify({
    code: 'unauthorized',
    detail: 'The token is not the right one.',
    hint: 'Send SIDECAR_TOKEN.',
  }),
};

describe('reload', () => {
  test('prints the report and ends with 0; without --deadline the sidecar’s own holds', async () => {
    const { url, seen } = await server(() => ({ body: REPORT }));
    expect(await run(['reload', 'models:/a/production'], { SIDECAR_URL: url })).toEqual({
      code: 0,
      stdout: REPORT,
      stderr: '',
    });
    expect(seen[0]).toMatchObject({ method: 'POST', url: '/v1/reload', headers: { accept: 'text/plain' } });
    expect(seen[0]?.headers['authorization']).toBeUndefined();
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({
      model_uri: 'models:/a/production',
      on_failure: 'warn',
    });
  });

  test('sends every flag, several URIs as a list, and the token', async () => {
    const { url, seen } = await server(() => ({ body: REPORT }));
    const args = [
      'reload',
      'models:/a/1',
      'models:/b@c',
      '--on-failure',
      'fail',
      '--deadline',
      '2.5',
      '--force',
      '--url',
      `${url}/`,
    ];
    expect((await run(args, { SIDECAR_TOKEN: 't0ken', SIDECAR_URL: 'http://127.0.0.1:9' })).code).toBe(0);
    expect(seen[0]?.headers['authorization']).toBe('Bearer t0ken');
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({
      model_uris: ['models:/a/1', 'models:/b@c'],
      on_failure: 'fail',
      deadline_s: 2.5,
      force: true,
    });
  });

  test('without URIs it means the configured ones; the token may come from a file', async () => {
    const { url, seen } = await server(() => ({ body: REPORT }));
    const path = join(directory(), 'token');
    writeFileSync(path, 'from-file\n');
    expect((await run(['reload'], { SIDECAR_URL: url, SIDECAR_TOKEN_FILE: path })).code).toBe(0);
    expect(seen[0]?.headers['authorization']).toBe('Bearer from-file');
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({ on_failure: 'warn' });
  });

  test('an answer that is an error ends with 1, its report printed', async () => {
    const { url } = await server(() => ({ status: 404, body: `❌ model_not_found: no a\n${REPORT}` }));
    const ended = await run(['reload', 'models:/a/1', '--on-failure', 'fail'], { SIDECAR_URL: url });
    expect(ended).toEqual({ code: 1, stdout: `❌ model_not_found: no a\n${REPORT}`, stderr: '' });
  });

  test('a refusal ends with 1 and one line that says why', async () => {
    const { url } = await server(() => UNAUTHORIZED);
    expect(await run(['reload'], { SIDECAR_URL: url })).toEqual({
      code: 1,
      stdout: '',
      stderr: `mlflow-sidecar: ${url} answered unauthorized: The token is not the right one. Send SIDECAR_TOKEN.\n`,
    });
  });

  test('something else that answers there is told as such', async () => {
    const { url } = await server(() => ({ status: 404, type: 'text/html', body: '<h1>Not Found</h1>' }));
    const { code, stderr } = await run(['reload'], { SIDECAR_URL: url });
    expect(code).toBe(1);
    expect(stderr).toBe(
      `mlflow-sidecar: ${url} answered HTTP 404 as no sidecar does: is it the right address?\n`,
    );
  });

  test('no sidecar ends with 1 and one line', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const { code, stderr } = await run(['reload'], { SIDECAR_URL: url });
    expect(code).toBe(1);
    expect(stderr).toBe(
      `mlflow-sidecar: ${url} refuses connections: is a sidecar running there? Its address is set by SIDECAR_URL or --url.\n`,
    );
  });

  test('a sidecar that does not answer is given up 5 s after the deadline', async () => {
    const { url } = await server(() => null);
    const started = performance.now();
    const { code, stderr } = await run(['reload', '--deadline', '0.1'], { SIDECAR_URL: url });
    expect(code).toBe(1);
    expect(stderr).toBe(`mlflow-sidecar: ${url} did not answer within 5.1 s.\n`);
    expect(performance.now() - started).toBeGreaterThan(5_000);
  });
});

describe('status', () => {
  const STATUS = {
    version: '0.1.0',
    uptime_s: 65,
    mlflow: {
      uri: 'http://mlflow:5000',
      registry_uri: 'http://mlflow:5000',
      last_success_at: null,
      last_failure_at: 1,
      last_error: 'refused\n\u001b[31mred',
      slow: true,
    },
    breaker: 'open',
    breakers: [
      {
        name: 'registry',
        host: 'a:1',
        state: 'open',
        failures: 5,
        retry_in_s: 41.2,
        last_failure: 'Refused.',
      },
      { name: 'tracking', host: 'b:2', state: 'closed', failures: 1, retry_in_s: null, last_failure: 'Old.' },
      {
        name: 'artifacts',
        host: 'c:3',
        state: 'half-open',
        failures: 6,
        retry_in_s: null,
        last_failure: null,
      },
    ],
    cache: {
      dir: '/cache',
      usable: true,
      problem: null,
      models: 1,
      bytes: 3 * 2 ** 20,
    },
    models: [],
  };
  /** What an older release does not tell. */
  const FULL = {
    ...STATUS,
    mlflow: { ...STATUS.mlflow, health: null },
    cache: { ...STATUS.cache, max_bytes: 20 * 2 ** 30, used_bytes: null, free_bytes: null, scrub: null },
  };
  const agoS = (seconds: number) => Date.now() / 1_000 - seconds;
  const REF = {
    model_uri: 'models:/a/Production',
    version: '1',
    resolved_version: '2',
    path: '/cache/x',
    age_s: 7_200,
    last_outcome: {
      status: 'stale',
      at: 1,
      warning: { code: 'mlflow_timeout', message: 'Too slow.', hint: null },
    },
  };
  const answers = (models: readonly object[], status: object = STATUS) =>
    server(({ url }) => ({
      type: 'application/json; charset=utf-8',
      body: JSON.stringify(url === '/v1/status' ? status : { models }),
    }));

  test('sums up for people', async () => {
    const { url } = await answers([{ name: 'a', refs: [REF] }]);
    const { code, stdout } = await run(['status'], { SIDECAR_URL: url });
    expect(code).toBe(0);
    expect(stdout.split('\n')).toEqual([
      `mlflow-sidecar 0.1.0 at ${url}, up for 65 s`,
      'MLflow: http://mlflow:5000: has not answered yet; slow lately; last error: refused [31mred',
      'Breaker: registry a:1 is open: left alone, the next trial in 42 s; 5 failures in a row; last failure: Refused.',
      'Breaker: artifacts c:3 is half-open: the next request is a trial; 6 failures in a row',
      'Cache: /cache: 3.0 MiB published',
      'Models:',
      '  models:/a/Production: version 1 -> /cache/x; version 2 is wanted; confirmed 2 h ago; last stale; Too slow.',
      '',
    ]);
  });

  const lineOf = (stdout: string, start: string) => stdout.split('\n').find(line => line.startsWith(start));

  test('says how full the cache is, what the last verification found, and how MLflow says that it is', async () => {
    const { url } = await answers([], {
      ...FULL,
      mlflow: {
        ...FULL.mlflow,
        last_success_at: agoS(3_600 * 3),
        last_error: null,
        slow: false,
        health: { ok: true, at: agoS(600), latency_ms: 3, error: null },
      },
      cache: {
        ...FULL.cache,
        used_bytes: 5 * 2 ** 30,
        free_bytes: 100 * 2 ** 30,
        scrub: { last_finished_at: agoS(3_600 * 5), files: 9, damaged: 2 },
      },
    });
    const { code, stdout } = await run(['status'], { SIDECAR_URL: url });
    expect(code).toBe(0);
    expect(lineOf(stdout, 'MLflow:')).toBe(
      'MLflow: http://mlflow:5000: answered 3 h ago; /health 10 min ago: ok',
    );
    expect(lineOf(stdout, 'Cache:')).toBe(
      'Cache: /cache: 3.0 MiB published; holds 5.0 GiB of 20 GiB; 100 GiB free on its disk; verified 5 h ago, damaged: 2',
    );
  });

  test('before anything was counted or verified it says so; a sick MLflow’s own words are told', async () => {
    const health = { ok: false, at: agoS(600), latency_ms: 3, error: 'HTTP 503' };
    const { url } = await answers([], { ...FULL, mlflow: { ...FULL.mlflow, health } });
    const { stdout } = await run(['status'], { SIDECAR_URL: url });
    expect(lineOf(stdout, 'Cache:')).toBe(
      'Cache: /cache: 3.0 MiB published; may hold 20 GiB; not verified yet',
    );
    expect(lineOf(stdout, 'MLflow:')).toContain('; /health 10 min ago: HTTP 503; last error: refused');
  });

  test('an empty cache, and one that does not work, are told', async () => {
    const { url } = await answers([], {
      ...STATUS,
      cache: { ...STATUS.cache, usable: false, problem: 'read-only' },
    });
    const { stdout } = await run(['status'], { SIDECAR_URL: url });
    expect(stdout).toContain('Cache: /cache: does not work: read-only\n');
    expect(stdout).toContain('Models: none cached\n');
  });

  test('--json gives both answers as they are', async () => {
    const { url } = await answers([{ name: 'a', refs: [REF] }]);
    const { code, stdout } = await run(['status', '--json', '--url', url]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ status: STATUS, models: { models: [{ name: 'a', refs: [REF] }] } });
  });

  test('a refusal ends with 1', async () => {
    const { url } = await server(() => UNAUTHORIZED);
    const { code, stderr } = await run(['status', '--url', url]);
    expect(code).toBe(1);
    expect(stderr).toContain('answered unauthorized');
  });
});
