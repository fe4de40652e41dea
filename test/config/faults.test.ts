import { hostname } from 'node:os';
import { describe, expect, test } from 'vitest';
import { loadOptions } from '../../src/config/load.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { CERTIFICATE, faults, file, PRIVATE_KEY } from './support.ts';

const TEXTS: readonly [string, string, RegExp][] = [
  ['SIDECAR_HOST', 'http://x', /^SIDECAR_HOST="http:\/\/x" is neither. Allowed: an IP address/],
  ['SIDECAR_HOST', '[::1]', /Allowed: an IP address without brackets/],
  ['SIDECAR_PORT', '65536', /^SIDECAR_PORT="65536" is not a port. Allowed: a port, 0 to 65535/],
  [
    'SIDECAR_PORT',
    'tcp://10.0.0.1:5080',
    /set by Kubernetes for a service called "sidecar".*enableServiceLinks/,
  ],
  ['SIDECAR_TOKEN', 'two words', /^SIDECAR_TOKEN holds a blank/],
  ['SIDECAR_TOKEN_FILE', '/nowhere/token', /^SIDECAR_TOKEN_FILE="\/nowhere\/token" does not exist/],
  ['SIDECAR_ALLOWED_HOSTS', 'http://x/', /"http:\/\/x\/" is a URL or a path/],
  ['SIDECAR_ALLOWED_HOSTS', 'x:5080', /"x:5080" holds a port/],
  ['SIDECAR_ALLOW', 'topic-*', /"topic-\*" matches no model URI: begin with models:\//],
  ['SIDECAR_ALLOW', ' , ', /names nothing/],
  ['SIDECAR_CACHE_DIR', '~/cache', /begins with "~", which only a shell expands/],
  ['SIDECAR_CONFIG', '/nowhere.yaml', /^SIDECAR_CONFIG="\/nowhere.yaml" does not exist/],
  ['SIDECAR_MODELS', 'models:/a, x', /"models:\/a" names no stage, alias or version; "x" is not a model URI/],
  ['SIDECAR_RELOAD_DEADLINE_S', '0', /is out of range. Allowed: 0.1 to 86400 s/],
  ['SIDECAR_RELOAD_DEADLINE_MAX_S', '10m', /is not a number/],
  ['SIDECAR_REFRESH_WAIT_S', '-1', /is not a number. Allowed: 0 to 86400 s/],
  ['SIDECAR_MAX_STALE_S', '1e9', /is not a number/],
  [
    'SIDECAR_PREWARM',
    '*/5 * * *',
    /is no schedule: expected 5 or 6 fields but got 4. Allowed: five cron fields/,
  ],
  ['SIDECAR_PREWARM', '61 25 * * *', /is no schedule: 61 does not fit minute; 25 does not fit hour/],
  [
    'SIDECAR_PREWARM',
    '* * * * *',
    /is for the models that SIDECAR_MODELS or --models names, and it names none/,
  ],
  ['SIDECAR_PREWARM_TIMEZONE', 'Mars/Base', /is no time zone that is known here. Allowed: .*Europe\/Berlin/],
  ['SIDECAR_WARMUP_S', '30', /is for the models that SIDECAR_MODELS or --models names, and it names none/],
  ['SIDECAR_METRICS_ADDR', '9090', /is no such address. Allowed: host:port, or :port/],
  ['SIDECAR_METRICS_ADDR', 'localhost:5080', /and SIDECAR_PORT or --port \(5080\) are one and the same/],
  ['SIDECAR_METRICS_ADDR', ':5080', /and SIDECAR_PORT or --port \(5080\) are one and the same/],
  ['SIDECAR_FILE_ROOTS', 'relative', /"relative" is not absolute/],
  ['SIDECAR_LOG_LEVEL', 'verbose', /Allowed: trace, debug, info, warn, error, fatal, silent/],
  ['MLFLOW_TRACKING_URI', 'databricks://profile', /is Databricks or Unity Catalog/],
  ['MLFLOW_TRACKING_URI', 'uc:http://x', /is Databricks or Unity Catalog/],
  ['MLFLOW_TRACKING_URI', 'sqlite:///mlflow.db', /is a database: start "mlflow server/],
  ['MLFLOW_TRACKING_URI', './mlruns', /is a directory: start "mlflow server/],
  ['MLFLOW_TRACKING_URI', 'file:///mlruns', /is a directory/],
  [
    'MLFLOW_TRACKING_URI',
    'mlflow:5000',
    /is not the address of an MLflow server. Set it to .*http:\/\/mlflow:5000/,
  ],
  ['MLFLOW_TRACKING_URI', 'http://mlflow/?x=1', /has a query or a fragment/],
  ['MLFLOW_TRACKING_URI', 'http://user@mlflow', /has a user name without a password/],
  ['MLFLOW_REGISTRY_URI', 'databricks-uc', /is Databricks or Unity Catalog/],
  [
    'MLFLOW_REGISTRY_URI',
    'http://u:p@mlflow',
    /must hold the same user name and password as MLFLOW_TRACKING_URI/,
  ],
  ['MLFLOW_TRACKING_TOKEN', 'a\nb', /^MLFLOW_TRACKING_TOKEN holds a blank/],
  ['MLFLOW_TRACKING_INSECURE_TLS', 'yes', /is neither true nor false. Allowed: true, false, 1 or 0/],
  ['MLFLOW_TRACKING_SERVER_CERT_PATH', '/', /is a directory/],
  ['MLFLOW_TRACKING_CLIENT_CERT_PATH', '/nowhere.pem', /does not exist/],
  ['MLFLOW_HTTP_REQUEST_TIMEOUT', 'none', /is not a number/],
  ['MLFLOW_HTTP_REQUEST_MAX_RETRIES', '1.5', /is not a whole number/],
  ['MLFLOW_WORKSPACE', 'Team A', /Allowed: 2 to 63 of a–z/],
  ['HTTP_PROXY', 'socks5://x', /is not the address of an HTTP proxy/],
];

test.each(TEXTS)('%s=%s is refused', (name, text, words) => {
  const lines = faults({ [name]: text });
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(words);
});

test('MLflow’s address must be set', () => {
  const lines = faults({ MLFLOW_TRACKING_URI: '' });
  expect(lines).toEqual([
    'MLFLOW_TRACKING_URI or --mlflow-tracking-uri must be set to MLflow’s address, such as http://mlflow:5000.',
  ]);
});

describe('between options', () => {
  const CROSS: readonly [string, Readonly<Record<string, string>>, readonly RegExp[]][] = [
    [
      'a deadline above its maximum',
      { SIDECAR_RELOAD_DEADLINE_S: '601' },
      [/^SIDECAR_RELOAD_DEADLINE_S="601" is above .*600 s/],
    ],
    [
      'a maximum below the deadline',
      { SIDECAR_RELOAD_DEADLINE_MAX_S: '59' },
      [/^SIDECAR_RELOAD_DEADLINE_MAX_S="59" is below .*60 s/],
    ],
    [
      'a user name without a password',
      { MLFLOW_TRACKING_USERNAME: 'u' },
      [/^MLFLOW_TRACKING_PASSWORD must be set/],
    ],
    [
      'a password without a user name',
      { MLFLOW_TRACKING_PASSWORD: 'p' },
      [/^MLFLOW_TRACKING_USERNAME or .* must be set/],
    ],
    [
      'a secret twice',
      { MLFLOW_TRACKING_TOKEN: 't', MLFLOW_TRACKING_TOKEN_FILE: import.meta.filename },
      [/^MLFLOW_TRACKING_TOKEN_FILE=.* and MLFLOW_TRACKING_TOKEN are both set/],
    ],
    [
      'beyond loopback with neither token nor list',
      { SIDECAR_HOST: '0.0.0.0' },
      [
        /^SIDECAR_TOKEN or SIDECAR_TOKEN_FILE must be set, since SIDECAR_HOST \(0.0.0.0\)/,
        /^SIDECAR_ALLOW or --allow must be set/,
      ],
    ],
    [
      'beyond loopback without a list',
      { SIDECAR_HOST: 'my-host', SIDECAR_TOKEN: 't0ken' },
      [/^SIDECAR_ALLOW/],
    ],
    ['beyond loopback without a token', { SIDECAR_HOST: '::', SIDECAR_ALLOW: '*' }, [/^SIDECAR_TOKEN/]],
    [
      'a model that the list does not allow',
      { SIDECAR_MODELS: 'models:/a/1,models:/b/1', SIDECAR_ALLOW: 'models:/a/*' },
      [/^SIDECAR_MODELS=.* names what SIDECAR_ALLOW does not allow: models:\/b\/1/],
    ],
    [
      'MLflow is the sidecar: by loopback',
      { MLFLOW_TRACKING_URI: 'http://localhost:5080' },
      [/is this sidecar itself/],
    ],
    [
      'MLflow is the sidecar: by IPv6',
      { MLFLOW_TRACKING_URI: 'http://[::1]:5080/x' },
      [/is this sidecar itself/],
    ],
    [
      'MLflow is the sidecar: by this machine’s name, on the port of the scheme',
      { MLFLOW_TRACKING_URI: `http://${hostname()}`, SIDECAR_PORT: '80' },
      [/is this sidecar itself, by SIDECAR_PORT \(80\)/],
    ],
    [
      'the registry is the sidecar: by the address it listens on',
      {
        MLFLOW_REGISTRY_URI: 'http://10.9.8.7:5080',
        SIDECAR_HOST: '10.9.8.7',
        SIDECAR_TOKEN: 't0ken',
        SIDECAR_ALLOW: '*',
      },
      [/^MLFLOW_REGISTRY_URI=.* is this sidecar itself/],
    ],
  ];
  test.each(CROSS)('%s', (_case, env, words) => {
    const lines = faults(env);
    expect(lines).toHaveLength(words.length);
    for (const [index, pattern] of words.entries()) expect(lines[index]).toMatch(pattern);
  });

  test.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost'])('%s needs neither token nor list', host => {
    expect(faults({ SIDECAR_HOST: host })).toEqual([]);
  });

  test('an MLflow on another port of this machine is another one', () => {
    expect(faults({ MLFLOW_TRACKING_URI: 'http://localhost:5000' })).toEqual([]);
  });
});

describe('a file of certificates', () => {
  const SERVER = 'MLFLOW_TRACKING_SERVER_CERT_PATH';
  const CLIENT = 'MLFLOW_TRACKING_CLIENT_CERT_PATH';
  const cases: readonly [string, string, string, RegExp | null][] = [
    ['of authorities that is no PEM', SERVER, '{}', /SERVER_CERT_PATH=".*" holds no certificate in PEM/],
    ['of authorities that is a key', SERVER, PRIVATE_KEY, /holds no certificate in PEM/],
    ['of authorities with words before the certificate', SERVER, `# ours\n${CERTIFICATE}`, null],
    ['for the client that is a key alone', CLIENT, PRIVATE_KEY, /holds no certificate in PEM/],
    ['for the client without its key', CLIENT, CERTIFICATE, /CLIENT_CERT_PATH=".*" holds no private key/],
    ['for the client with its key first', CLIENT, PRIVATE_KEY + CERTIFICATE, null],
  ];
  test.each(cases)('%s', (_case, name, content, words) => {
    const lines = faults({ [name]: file(content) });
    expect(lines).toHaveLength(words === null ? 0 : 1);
    if (words !== null) expect(lines[0]).toMatch(words);
  });

  test('to verify with, and no verification', () => {
    const lines = faults({ MLFLOW_TRACKING_INSECURE_TLS: 'true', [SERVER]: file(CERTIFICATE) });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other/);
  });
});

test('every fault is told at once, each by the name that the user wrote', () => {
  const config = file('log_level: loud\nprot: 1\n');
  const env = { SIDECAR_CONFIG: config, SIDECAR_PORT: 'x', MLFLOW_TRACKING_URI: 'databricks' };
  const names = loadOptions({ env, flags: { '--host': '0.0.0.0', '--max-stale-s': 'y' } }).faults?.map(
    ({ option }) => option,
  );
  expect(names?.toSorted()).toEqual(
    [
      '--max-stale-s',
      'MLFLOW_TRACKING_URI',
      'SIDECAR_ALLOW or --allow',
      'SIDECAR_PORT',
      'SIDECAR_TOKEN',
      `log_level in ${config}`,
      `prot in ${config}`,
    ].toSorted(),
  );
});

describe('what is secret', () => {
  test('no fault shows a secret’s value', () => {
    const secret = 'top s3cret';
    for (const { name } of OPTION_SPECS.filter(spec => spec.secret === true)) {
      expect(faults({ [name]: secret, MLFLOW_TRACKING_URI: '' }).join()).not.toContain('s3cret');
    }
  });

  test.each([
    'http://u:s3cret@mlflow/?x',
    'u:s3cret@mlflow:5000',
    'http://u:s3/cret@mlflow',
    'http://u:s3cret%@mlflow',
  ])('no fault shows the password in %s', address => {
    const lines = faults({ MLFLOW_TRACKING_URI: address });
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toMatch(/s3/);
  });

  test('nor what a file holds that cannot be a token', () => {
    const line = faults({ SIDECAR_TOKEN_FILE: file('s3cret with blanks') })[0];
    expect(line).toMatch(/^SIDECAR_TOKEN_FILE=".*" is a file whose content cannot be a token/);
    expect(line).not.toContain('s3cret');
  });
});
