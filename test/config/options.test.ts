import { describe, expect, test } from 'vitest';
import { flagOf, keyOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { CERTIFICATE, file, options, PRIVATE_KEY } from './support.ts';

test('with nothing but MLflow’s address every option has its default', () => {
  expect(options()).toEqual({
    host: '127.0.0.1',
    port: 5080,
    token: null,
    allowedHosts: [],
    allow: [],
    cacheDir: '/home/u/.cache/mlflow-sidecar',
    cacheMaxBytes: 21_474_836_480,
    models: [],
    schedules: [],
    prewarmTimezone: 'UTC',
    warmupS: 0,
    reloadDeadlineS: 60,
    reloadDeadlineMaxS: 600,
    refreshWaitS: 2,
    maxStaleS: 604_800,
    breakerFailures: 5,
    breakerResetS: 60,
    proxy: 'full',
    freshS: 0,
    fileRoots: [],
    metricsAddr: null,
    logLevel: 'info',
    mlflow: {
      trackingUri: 'http://mlflow:5000',
      registryUri: 'http://mlflow:5000',
      workspace: null,
      credentials: { username: null, password: null, token: null },
      tls: { insecure: false, serverCertPath: null, clientCertPath: null },
      tryTimeoutMs: 5_000,
      attempts: 3,
      proxy: { http: null, https: null, noProxy: null },
    },
  });
});

const CASES: readonly [string, string, (read: ReturnType<typeof options>) => unknown, unknown][] = [
  ['SIDECAR_HOST', '127.0.0.2', o => o.host, '127.0.0.2'],
  ['SIDECAR_HOST', '::1', o => o.host, '::1'],
  ['SIDECAR_PORT', '0', o => o.port, 0],
  ['SIDECAR_PORT', ' 65535 ', o => o.port, 65_535],
  ['SIDECAR_TOKEN', 's3cret', o => o.token, 's3cret'],
  [
    'SIDECAR_ALLOWED_HOSTS',
    'Sidecar.ml, *.example.com,[::2]',
    o => o.allowedHosts,
    ['sidecar.ml', '*.example.com', '::2'],
  ],
  ['SIDECAR_ALLOW', 'models:/topic-*,runs:/*', o => o.allow, ['models:/topic-*', 'runs:/*']],
  ['SIDECAR_CACHE_DIR', '/var/cache/x/', o => o.cacheDir, '/var/cache/x'],
  [
    'SIDECAR_MODELS',
    'models:/a/production, models:/b@champion,',
    o => o.models,
    [
      { kind: 'stage', name: 'a', stage: 'Production' },
      { kind: 'alias', name: 'b', alias: 'champion' },
    ],
  ],
  ['SIDECAR_CACHE_MAX_BYTES', '1048576', o => o.cacheMaxBytes, 1_048_576],
  ['SIDECAR_CACHE_MAX_BYTES', '20Gi', o => o.cacheMaxBytes, 21_474_836_480],
  ['SIDECAR_CACHE_MAX_BYTES', '1.5 GiB', o => o.cacheMaxBytes, 1_610_612_736],
  ['SIDECAR_CACHE_MAX_BYTES', '5GB', o => o.cacheMaxBytes, 5_000_000_000],
  ['SIDECAR_BREAKER_FAILURES', '1', o => o.breakerFailures, 1],
  ['SIDECAR_BREAKER_RESET_S', '0.5', o => o.breakerResetS, 0.5],
  ['SIDECAR_RELOAD_DEADLINE_S', '0.1', o => o.reloadDeadlineS, 0.1],
  ['SIDECAR_RELOAD_DEADLINE_MAX_S', '60', o => o.reloadDeadlineMaxS, 60],
  ['SIDECAR_REFRESH_WAIT_S', '0', o => o.refreshWaitS, 0],
  ['SIDECAR_MAX_STALE_S', '3600', o => o.maxStaleS, 3_600],
  ['SIDECAR_PROXY', 'Read-Only', o => o.proxy, 'read-only'],
  ['SIDECAR_PROXY', 'off', o => o.proxy, 'off'],
  ['SIDECAR_PREWARM_TIMEZONE', 'europe/berlin', o => o.prewarmTimezone, 'Europe/Berlin'],
  ['SIDECAR_METRICS_ADDR', ':9090', o => o.metricsAddr, { host: null, port: 9_090 }],
  ['SIDECAR_METRICS_ADDR', '[::]:9090', o => o.metricsAddr, { host: '::', port: 9_090 }],
  ['SIDECAR_METRICS_ADDR', 'localhost:0', o => o.metricsAddr, { host: 'localhost', port: 0 }],
  ['SIDECAR_FRESH_S', '1.5', o => o.freshS, 1.5],
  ['SIDECAR_FILE_ROOTS', '/mnt/a/,/mnt/b/../c', o => o.fileRoots, ['/mnt/a', '/mnt/c']],
  ['SIDECAR_LOG_LEVEL', 'DEBUG', o => o.logLevel, 'debug'],
  [
    'MLFLOW_TRACKING_URI',
    'HTTPS://MLflow.example:443/mlflow//',
    o => o.mlflow.trackingUri,
    'https://mlflow.example/mlflow',
  ],
  ['MLFLOW_REGISTRY_URI', 'http://registry:5001', o => o.mlflow.registryUri, 'http://registry:5001'],
  ['MLFLOW_TRACKING_TOKEN', 'abc.def', o => o.mlflow.credentials.token, { value: 'abc.def' }],
  ['MLFLOW_TRACKING_INSECURE_TLS', 'True', o => o.mlflow.tls.insecure, true],
  ['MLFLOW_TRACKING_INSECURE_TLS', '0', o => o.mlflow.tls.insecure, false],
  ['MLFLOW_HTTP_REQUEST_TIMEOUT', '2', o => o.mlflow.tryTimeoutMs, 2_000],
  ['MLFLOW_HTTP_REQUEST_TIMEOUT', '120', o => o.mlflow.tryTimeoutMs, 5_000],
  ['MLFLOW_HTTP_REQUEST_MAX_RETRIES', '0', o => o.mlflow.attempts, 1],
  ['MLFLOW_HTTP_REQUEST_MAX_RETRIES', '7', o => o.mlflow.attempts, 3],
  ['MLFLOW_WORKSPACE', 'team-a', o => o.mlflow.workspace, 'team-a'],
  ['HTTP_PROXY', 'proxy:3128', o => o.mlflow.proxy.http, 'http://proxy:3128/'],
  ['https_proxy', 'http://u:p@proxy:3128', o => o.mlflow.proxy.https, 'http://u:p@proxy:3128/'],
  ['no_proxy', 'localhost,.svc', o => o.mlflow.proxy.noProxy, 'localhost,.svc'],
];

test.each(CASES)('%s=%s', (name, text, read, expected) => {
  expect(read(options({ [name]: text }))).toEqual(expected);
});

test('certificates are named by their files', () => {
  const [authorities, ours] = [file(CERTIFICATE), file(CERTIFICATE + PRIVATE_KEY)];
  const env = { MLFLOW_TRACKING_SERVER_CERT_PATH: authorities, MLFLOW_TRACKING_CLIENT_CERT_PATH: ours };
  expect(options(env).mlflow.tls).toMatchObject({ serverCertPath: authorities, clientCertPath: ours });
});

describe('where an option is taken from', () => {
  test('a flag wins over the environment, and that over the file', () => {
    const config = file('host: 127.0.0.4\nport: 4\nlog_level: warn\n');
    const env = { SIDECAR_CONFIG: config, SIDECAR_HOST: '127.0.0.3', SIDECAR_PORT: '3' };
    expect(options(env, { '--host': '127.0.0.2' })).toMatchObject({
      host: '127.0.0.2',
      port: 3,
      logLevel: 'warn',
    });
  });

  test('--config wins over SIDECAR_CONFIG', () => {
    expect(options({ SIDECAR_CONFIG: '/nowhere' }, { '--config': file('port: 7') }).port).toBe(7);
  });

  test('an empty value is none, wherever it stands', () => {
    const config = file('host: ""\nport:\nmodels: []\n');
    expect(options({ SIDECAR_CONFIG: config, SIDECAR_PORT: '', HTTP_PROXY: '' })).toEqual(options());
  });

  test('an empty file holds nothing', () => {
    expect(options({ SIDECAR_CONFIG: file('# nothing yet\n') })).toEqual(options());
  });

  test('the file may hold every option but itself and the proxies', () => {
    const without = OPTION_SPECS.filter(spec => keyOf(spec) === null).map(spec => spec.name);
    expect(without).toEqual(['SIDECAR_CONFIG', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY']);
  });

  test('no secret has a flag, since every user of the machine sees it', () => {
    const without = OPTION_SPECS.filter(spec => flagOf(spec) === null).map(spec => spec.name);
    expect(without).toContain('SIDECAR_TOKEN');
    expect(without).toContain('MLFLOW_TRACKING_PASSWORD');
    expect(without).toContain('MLFLOW_TRACKING_TOKEN');
    expect(OPTION_SPECS.filter(spec => spec.secret === true && flagOf(spec) !== null)).toEqual([]);
  });

  test('the file’s values are texts as they stand: digits with zeros, on and off', () => {
    const config = file('token: 0012\nmlflow_tracking_username: yes\nmlflow_tracking_password: 1e3\n');
    const { token, mlflow } = options({ SIDECAR_CONFIG: config });
    expect(token).toBe('0012');
    expect(mlflow.credentials).toMatchObject({ username: { value: 'yes' }, password: { value: '1e3' } });
  });

  test('a list in the file may hold commas', () => {
    const config = file('models:\n  - models:/a, b/1\n  - models:/c/2\n');
    expect(options({ SIDECAR_CONFIG: config }).models).toMatchObject([{ name: 'a, b' }, { name: 'c' }]);
  });

  test('a model in the file may have a schedule of its own, and the others have the common one', () => {
    const config = file(
      'models:\n  - models:/a/1\n  - uri: models:/b@champion\n    prewarm: 0 6 * * 1-5\nprewarm: "*/5 * * * *"\n',
    );
    expect(options({ SIDECAR_CONFIG: config })).toMatchObject({
      models: [{ name: 'a' }, { name: 'b' }],
      schedules: [
        { uri: { name: 'a' }, cron: '*/5 * * * *' },
        { uri: { name: 'b' }, cron: '0 6 * * 1-5' },
      ],
    });
  });

  test('a model that is named twice counts once', () => {
    const uris = 'models:/a/Production,models:/b/1,models:/a/production';
    expect(options({ SIDECAR_MODELS: uris }).models).toMatchObject([{ name: 'a' }, { name: 'b' }]);
  });

  test('without a common schedule only the models that have one are pre-warmed', () => {
    const config = file('models: [models:/a/1, {uri: models:/b/1, prewarm: "@hourly"}]\n');
    expect(options({ SIDECAR_CONFIG: config }).schedules).toMatchObject([
      { uri: { name: 'b' }, cron: '@hourly' },
    ]);
  });

  test('a proxy variable in lower case wins, as in curl', () => {
    expect(options({ HTTP_PROXY: 'http://upper:1', http_proxy: 'http://lower:1' }).mlflow.proxy.http).toBe(
      'http://lower:1/',
    );
  });

  test('the cache is below XDG_CACHE_HOME if that is absolute', () => {
    expect(options({ XDG_CACHE_HOME: '/xdg' }).cacheDir).toBe('/xdg/mlflow-sidecar');
    expect(options({ XDG_CACHE_HOME: 'xdg' }).cacheDir).toBe('/home/u/.cache/mlflow-sidecar');
  });
});

describe('credentials', () => {
  test('a file of MLflow’s is kept as a path, to be read again', () => {
    const [user, password, token] = [file('u'), file('p'), file('t')];
    const { credentials } = options({
      MLFLOW_TRACKING_USERNAME_FILE: user,
      MLFLOW_TRACKING_PASSWORD_FILE: password,
      MLFLOW_TRACKING_TOKEN_FILE: token,
    }).mlflow;
    expect(credentials).toEqual({
      username: { file: user },
      password: { file: password },
      token: { file: token },
    });
  });

  test('the sidecar’s own token is read from its file, without the line’s end', () => {
    expect(options({ SIDECAR_TOKEN_FILE: file('from-file\n') }).token).toBe('from-file');
  });

  test('a user name and password in the address are taken out of it, and win, as in MLflow’s clients', () => {
    const { mlflow } = options({
      MLFLOW_TRACKING_URI: 'http://me:p%40ss@mlflow:5000/x',
      MLFLOW_TRACKING_USERNAME: 'other',
      MLFLOW_TRACKING_PASSWORD: 'other',
    });
    expect(mlflow).toMatchObject({
      trackingUri: 'http://mlflow:5000/x',
      registryUri: 'http://mlflow:5000/x',
    });
    expect(mlflow.credentials).toMatchObject({ username: { value: 'me' }, password: { value: 'p@ss' } });
  });

  test('a password keeps the blanks around it', () => {
    const { credentials } = options({
      MLFLOW_TRACKING_USERNAME: 'u',
      MLFLOW_TRACKING_PASSWORD: ' p ',
    }).mlflow;
    expect(credentials.password).toEqual({ value: ' p ' });
  });
});

test('beyond loopback MLflow’s clients may load models, and change nothing, unless told', () => {
  const beyond = { SIDECAR_HOST: '0.0.0.0', SIDECAR_TOKEN: 's3cret', SIDECAR_ALLOW: '*' };
  expect(options(beyond).proxy).toBe('read-only');
  expect(options({ ...beyond, SIDECAR_PROXY: 'full' }).proxy).toBe('full');
});
