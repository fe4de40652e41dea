import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Logger } from '../../src/telemetry/logger.ts';
import { Scrubber } from '../../src/telemetry/scrub.ts';
import { scrubberOf } from '../../src/telemetry/secrets.ts';
import { file, options } from '../config/support.ts';
import { log } from './support.ts';

const SECRET = 'p"a\\ss/wörd 1';

function knowing(...secrets: readonly string[]): Scrubber {
  const scrubber = new Scrubber();
  for (const secret of secrets) scrubber.know(secret);
  return scrubber;
}

describe('a known secret appears nowhere', () => {
  const places: readonly [string, (log: Logger) => void][] = [
    ['in the message', logger => logger.info(`it is ${SECRET}!`)],
    ['in a field', logger => logger.info({ deep: [{ er: SECRET }] }, 'x')],
    ['in a key', logger => logger.info({ [`x${SECRET}`]: 1 }, 'x')],
    ['in an error’s message', logger => logger.error({ err: new Error(`bad ${SECRET}`) })],
    ['in its stack', logger => logger.error({ err: new Error(SECRET) })],
    ['in its cause', logger => logger.error({ err: new Error('bad', { cause: new Error(SECRET) }) })],
    ['in a cause that is no error', logger => logger.error({ err: new Error('bad', { cause: SECRET }) })],
    [
      'in one of several errors',
      logger => logger.error({ err: new Error('x', { cause: new AggregateError([new Error(SECRET)]) }) }),
    ],
    [
      'in a property of an error',
      logger => logger.error({ err: Object.assign(new Error('bad'), { request: SECRET }) }),
    ],
    ['in a child’s fields', logger => logger.child({ of: SECRET }).info('x')],
    ['in a URL', logger => logger.info(`http://x/?q=${encodeURIComponent(SECRET)}`)],
    ['as base64', logger => logger.info(Buffer.from(SECRET).toString('base64'))],
  ];
  test.each(places)('%s', (_place, write) => {
    const target = log(knowing(SECRET));
    write(target.logger);
    const text = target.text();
    expect(target.lines()).toHaveLength(1);
    for (const form of [
      SECRET,
      JSON.stringify(SECRET).slice(1, -1),
      encodeURIComponent(SECRET),
      Buffer.from(SECRET).toString('base64'),
    ]) {
      expect(text).not.toContain(form);
    }
  });
});

describe('what looks like a credential goes, known or not', () => {
  const cases: readonly [string, string][] = [
    ['GET http://user:pw9X@mlflow:5000/x failed', 'GET http://[redacted]@mlflow:5000/x failed'],
    ['http://a:pw9X@one https://b:pw9X@two', 'http://[redacted]@one https://[redacted]@two'],
    ['http://a:p@pw9X@host/', 'http://[redacted]@host/'],
    ['Authorization: Bearer pw9X.abc', 'Authorization: [redacted]'],
    ['authorization=pw9X', 'authorization=[redacted]'],
    ['{"Authorization":"Basic dTpwdzlY"}', '{"Authorization":"[redacted]"}'],
    ['sent bearer pw9Xpw9X, got 401', 'sent bearer [redacted], got 401'],
    [`sent Basic ${Buffer.from('u:pw9X').toString('base64')}`, 'sent Basic [redacted]'],
  ];
  test.each(cases)('%s', (text, safe) => {
    expect(new Scrubber().scrubText(text)).toBe(safe);
  });

  test.each(['Authorization', 'proxy-authorization', 'set-cookie', 'password', 'api_token', 'clientSecret'])(
    'the value of a field that is called %s',
    key => {
      const target = log();
      target.logger.info({ headers: { [key]: 'pw9X' } }, 'x');
      expect(target.lines()[0]).toMatchObject({ headers: { [key]: '[redacted]' } });
    },
  );

  test.each([
    'basic authentication is due',
    'models:/topic@champion',
    'http://mlflow:5000/a@b',
    'no bearer token',
    'mailto:x@y',
  ])('"%s" stays as it is', text => {
    expect(new Scrubber().scrubText(text)).toBe(text);
  });
});

test('a line stays JSON whatever the secrets are', () => {
  const secret = fc.oneof(
    fc.string({ minLength: 4 }),
    fc.constantFrom('null', 'true', '":"', '\\\\\\\\', 'level', '0.25', '{"ms'),
  );
  fc.assert(
    fc.property(fc.array(secret), fc.string(), (secrets, msg) => {
      const target = log(knowing(...secrets));
      target.logger.info({ nothing: null, yes: true, n: 0.25 }, msg);
      expect(target.lines()).toHaveLength(1);
      expect(Object.values(target.lines()[0] ?? {})).toEqual(expect.arrayContaining([null, true, 0.25]));
    }),
  );
});

test('a secret that is a part of another leaves nothing of it', () => {
  expect(knowing('abcd', 'abcdefgh').scrubText('x abcdefgh y')).toBe('x [redacted] y');
});

test('every secret of the configuration is known: its own token, MLflow’s, passwords, pairs, the proxy’s', () => {
  const scrubber = scrubberOf(
    options({
      SIDECAR_TOKEN: 'tok-own1',
      MLFLOW_TRACKING_USERNAME: 'me',
      MLFLOW_TRACKING_PASSWORD_FILE: file('pass-in-file\n'),
      MLFLOW_TRACKING_TOKEN: 'tok-mlflow',
      HTTPS_PROXY: 'http://proxyuser:pass%2Dproxy@proxy:3128',
    }),
  );
  const pair = Buffer.from('me:pass-in-file').toString('base64');
  const text = scrubber.scrubText(`tok-own1 tok-mlflow pass-in-file ${pair} pass-proxy`);
  expect(text).toBe(Array(5).fill('[redacted]').join(' '));
});
