import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import * as kinds from '../../src/config/kinds.ts';
import { formatModelUri } from '../../src/domain/model-uri.ts';
import { CHART, manifestsOf, one, readSet, SETS, sidecarOf } from '../support/chart.ts';
import { mounted, optionsOf } from '../support/chart-config.ts';
import { render, type Values } from '../support/helm.ts';

const MAIN = resolve(import.meta.dirname, '../../dist/main.js');
const execute = promisify(execFile);
/** What of a file system is left free, besides the quota. */
const FREE = 0.15;

test('the sidecar takes the configuration of every set', async () => {
  const checks = SETS.map(async set => {
    const manifests = await manifestsOf(set);
    const { args } = sidecarOf(manifests);
    const env = await mounted(manifests);
    return execute(process.execPath, [MAIN, ...args, '--check'], { env });
  });
  for (const output of await Promise.all(checks))
    expect(output).toEqual({ stdout: 'The configuration is right.\n', stderr: '' });
});

describe('its options', () => {
  const of = async (set: string) => optionsOf(await manifestsOf(set));

  test('are those of the chart: everybody may reach it who knows the token, by the names of the Service', async () => {
    expect(await of('minimal')).toMatchObject({
      host: '0.0.0.0',
      port: 5080,
      token: 'the-token',
      allow: ['models:/topic-classification/Production'],
      proxy: 'read-only',
      metricsAddr: null,
      cacheMaxBytes: 16 * 2 ** 30,
    });
    const names = ['', '.default', '.default.svc', '.default.svc.cluster.local'];
    expect((await of('minimal')).allowedHosts).toEqual(names.map(name => `release-mlflow-sidecar${name}`));
    expect((await of('shared-claim')).allowedHosts).toContain('mlflow-sidecar.default.svc');
    expect((await of('ipv6')).allowedHosts).toEqual(
      expect.arrayContaining(['release-mlflow-sidecar.default.svc.cluster.example', '*.models.example.com']),
    );
  });

  test('name the models with their schedules, and allow no others', async () => {
    const { models, schedules, allow, ...others } = await of('schedules');
    const uris = [
      'models:/topic-classification/Production',
      'models:/sentiment-analysis@champion',
      'models:/language/latest',
    ];
    expect(models.map(formatModelUri)).toEqual(uris);
    expect(allow).toEqual(uris);
    expect(schedules.map(({ cron }) => cron)).toEqual(['*/15 * * * *', '*/5 * * * *', '@hourly']);
    expect(others).toMatchObject({
      prewarmTimezone: 'Europe/Berlin',
      warmupS: 60,
      maxStaleS: 1_209_600,
      reloadDeadlineMaxS: 1_200.5,
      freshS: 0.5,
      breakerFailures: 8,
      fileRoots: ['/mnt/artifacts'],
      cacheMaxBytes: 8_589_934_592,
      logLevel: 'debug',
    });
    expect(await of('patterns')).toMatchObject({ models: [], allow: ['models:/topic-*', 'runs:/*'] });
  });

  test('have a schedule wherever there are models, unless it is set to none', async () => {
    const schedulesOf = async (values: Values) => {
      const { schedules } = await optionsOf(await render(CHART, { ...readSet('minimal'), ...values }));
      return schedules.map(({ cron }) => cron);
    };
    expect(await schedulesOf({})).toEqual(['*/5 * * * *']);
    expect(await schedulesOf({ config: { prewarm: '@daily' } })).toEqual(['@daily']);
    expect(await schedulesOf({ config: { prewarm: '' } })).toEqual([]);
    expect(await schedulesOf({ models: [], allow: ['*'] })).toEqual([]);
  });

  test('allow the one text of what the models are, however they are written', async () => {
    const models = [
      'models:/a/03',
      'runs:/abc//model/',
      'models:/b/PRODUCTION',
      'models:/c/LATEST',
      'models:/d/Blue',
      'models:/e@Champion',
      'models:/m-0a1b',
      'models:/a 1?/None',
      { uri: 'models:/f/0010', prewarm: '@daily' },
    ];
    const options = await optionsOf(await render(CHART, { ...readSet('minimal'), models }));
    expect(options.models).toHaveLength(models.length);
    expect(options.allow).toEqual(options.models.map(formatModelUri));
  });

  test('have MLflow’s credential and authorities from files', async () => {
    const { mlflow: bearer } = await of('token-and-authorities');
    expect(bearer.credentials).toEqual({
      username: null,
      password: null,
      token: { file: expect.stringMatching(/\/mlflow-token$/) },
    });
    expect(bearer.tls.serverCertPath).toMatch(/\/ca\.crt$/);
    const { mlflow: basic } = await of('user-and-password');
    expect(basic).toMatchObject({
      registryUri: 'https://registry/prefix',
      credentials: {
        username: { file: expect.stringMatching(/\/mlflow-username$/) },
        password: { file: expect.stringMatching(/\/mlflow-password$/) },
        token: null,
      },
    });
  });

  test('serve metrics where the pod says so, on port 9090', async () => {
    for (const [set, host] of [
      ['monitoring', '0.0.0.0'],
      ['ipv6', '::'],
    ] as const) {
      expect((await of(set)).metricsAddr).toEqual({ host, port: 9090 });
      expect(sidecarOf(await manifestsOf(set))['ports']).toContainEqual({
        name: 'metrics',
        containerPort: 9090,
      });
    }
  });

  test('let nobody write through it from behind a proxy', async () => {
    expect(await of('behind-a-proxy')).toMatchObject({ host: '127.0.0.1', proxy: 'read-only' });
  });
});

test.each([
  ['2Mi', 1_677_721],
  ['512Mi', 429_496_729],
  ['3Gi', 2_576_980_377],
  ['20Gi', 17_179_869_184],
  ['7Ti', 6_157_265_115_545],
  ['10G', 8_000_000_000],
  ['1T', 800_000_000_000],
  ['50M', 40_000_000],
  ['2000000Ki', 1_638_400_000],
  ['21474836480', 17_179_869_184],
])('of %s the cache may fill %d bytes', async (size, bytes) => {
  const rendering = render(
    CHART,
    { ...readSet('minimal'), persistence: { size } },
    '--show-only=templates/configmap.yaml',
  );
  const written = /cache_max_bytes: "(\d+)"/.exec(
    String(Object(one(await rendering, 'ConfigMap')['data'])['config.yaml']),
  );
  expect(Number(written?.[1])).toBe(bytes);
  const whole = kinds.bytes(1).parse(size);
  expect('value' in whole && bytes / whole.value).toBeLessThan(1 - FREE);
});
