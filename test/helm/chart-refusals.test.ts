import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import type { Options } from '../../src/config/options.ts';
import { CHART, configFileIn, manifestsOf, readSet } from '../support/chart.ts';
import { optionsOf } from '../support/chart-config.ts';
import { refusal, render, type Values } from '../support/helm.ts';

const MINIMAL = readSet('minimal');
const MODEL = 'models:/topic-classification/Production';

/** What the sidecar makes of the file of `minimal`, in which these keys are others. @throws where it refuses them */
async function taken(keys: Values): Promise<Options> {
  const manifests = await manifestsOf('minimal');
  const file = Object.fromEntries(
    Object.entries({ ...parse(configFileIn(manifests)), ...keys }).filter(([, value]) => value !== null),
  );
  return optionsOf(
    manifests.map(manifest =>
      manifest.kind === 'ConfigMap' ? { ...manifest, data: { 'config.yaml': stringify(file) } } : manifest,
    ),
  );
}

const schedule = (prewarm: string): [Values, Values, RegExp] => [
  { config: { prewarm } },
  { prewarm },
  /config\.prewarm is .*, which is no schedule: write five cron fields/,
];
const ofModel = (uri: string): [Values, Values, RegExp] => [
  { models: [uri] },
  { models: [uri], allow: ['*'] },
  /which is no model URI|models\.0|outside 1 to/,
];
const host = (name: string): [Values, Values, RegExp] => [
  { allowedHosts: [name] },
  { allowed_hosts: [name] },
  /allowedHosts\.0/,
];
const size = (text: string, bytes: string): [Values, Values, RegExp] => [
  { persistence: { size: text } },
  { cache_max_bytes: bytes },
  /persistence\.size/,
];

/** Where the one pod is replaced, a wrong value would end the service that runs: Helm must know what the sidecar refuses. */
const REFUSED: readonly (readonly [string, readonly [Values, Values, RegExp]])[] = [
  ...['* * * *', '60 * * * *', '*/0 * * * *', '0 0 * 13 *', '0 0 * * foo', '@reboot', '5 minutes'].map(
    cron => [`the schedule ${cron}`, schedule(cron)] as const,
  ),
  [
    'a model’s own schedule',
    [
      { models: [{ uri: MODEL, prewarm: '5m' }] },
      { models: [{ uri: MODEL, prewarm: '5m' }] },
      /prewarm of models:\/topic-classification\/Production in models is "5m"/,
    ],
  ],
  ...['topic', 'models:/a', 'models:/a/0', 'models:/a/2147483648', 'models:/a/b/c', 'models:/a:b/1'].map(
    uri => [`the model URI ${uri}`, ofModel(uri)] as const,
  ),
  ...['models:/../1', 'models:/a@', 'models:/a\tb/1', 'runs:/abc', 'runs:/a/../b', 'runs:/a b/model'].map(
    uri => [`the model URI ${JSON.stringify(uri)}`, ofModel(uri)] as const,
  ),
  ...['https://models.example.com', 'models.example.com:443', 'a b'].map(
    name => [`the host ${name}`, host(name)] as const,
  ),
  [
    'a domain of the cluster that is a URL',
    [{ clusterDomain: 'http://x' }, { allowed_hosts: ['a.svc.http://x'] }, /clusterDomain/],
  ],
  ['a size of 1Mi, of which 80 % are too little', size('1Mi', '838860')],
  ['a size of nothing', size('0Gi', '0Gi')],
  ['a size with a unit of its own', size('20Gib', '20Gib')],
  ['a size beyond all numbers', size('99999999Ti', '99999999Ti')],
  [
    'a quota of its own that is too little',
    [{ config: { cache_max_bytes: '1000k' } }, { cache_max_bytes: '1000k' }, /may fill 1000000 bytes/],
  ],
  [
    'a time zone with a blank',
    [
      { config: { prewarm_timezone: 'Europe/New Berlin' } },
      { prewarm_timezone: 'Europe/New Berlin' },
      /prewarm_timezone/,
    ],
  ],
  ...['prewarm', 'warmup_s'].map(
    key =>
      [
        `${key} and no model`,
        [
          { models: [], allow: ['*'], config: { [key]: key === 'prewarm' ? '@daily' : 60 } },
          { models: null, prewarm: null, [key]: key === 'prewarm' ? '@daily' : 60 },
          new RegExp(`config.${key} is for the models`),
        ] as const,
      ] as const,
  ),
  [
    'a deadline above the longest',
    [
      { config: { reload_deadline_s: 601 } },
      { reload_deadline_s: 601 },
      /is above config\.reload_deadline_max_s/,
    ],
  ],
  [
    'a longest deadline below the common one',
    [{ config: { reload_deadline_max_s: 59.5 } }, { reload_deadline_max_s: 59.5 }, /\(60, .* is above/],
  ],
  [
    'a model that is not allowed',
    [{ allow: ['models:/other-*'] }, { allow: ['models:/other-*'] }, /which no pattern of allow fits/],
  ],
  ...['http://mlflow:port', 'http://mlflow/?a=b', 'mlflow:5000'].map(
    uri =>
      [
        `the address ${uri}`,
        [{ mlflow: { trackingUri: uri } }, { mlflow_tracking_uri: uri }, /mlflow\.trackingUri must be/],
      ] as const,
  ),
];

describe('Helm refuses as the sidecar does', () => {
  test.each(REFUSED)('%s', async (_what, [values, keys, words]) => {
    await expect(taken(keys)).rejects.toThrow(/faults/);
    expect(await refusal(CHART, { ...MINIMAL, ...values })).toMatch(words);
  });
});

test('what the sidecar takes, Helm takes too', async () => {
  const schedules = [
    ...['*/5 * * * *', '0 */5 * * * *', '0 0 * * MON', '0 0 * jan,Feb mon-fri', '1,2,5-10/2 0-23 01 1-12 7'],
    ...['*/5  * * * *', '@hourly', '@Midnight', '@annually', '0 0 * January Sunday'],
  ];
  const models = schedules.map((prewarm, at) => ({ uri: `models:/topic ${at}@a.b:c`, prewarm }));
  const allowedHosts = ['*.example.com', 'models', '10.1.2.3', '[fd00::5]', 'fd00::5', 'a_b.example.com'];
  for (const timezone of [
    'Europe/Berlin',
    'America/Argentina/Buenos_Aires',
    'Etc/GMT+5',
    'UTC',
    'America/Port-au-Prince',
  ]) {
    const values = {
      ...MINIMAL,
      models,
      allow: ['models:/to*@a.b:*'],
      allowedHosts,
      config: { prewarm_timezone: timezone, reload_deadline_s: 600, cache_max_bytes: '1.5GiB' },
      persistence: { size: '1536Mi' },
    };
    const options = await optionsOf(await render(CHART, values));
    expect(options.schedules.map(({ cron }) => cron)).toEqual(schedules);
    expect(options.cacheMaxBytes).toBe(1_610_612_736);
  }
});
