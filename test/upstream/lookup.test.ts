import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import type { MlflowOptions } from '../../src/config/options.ts';
import { type Found, lookupError, Names } from '../../src/upstream/dns.ts';
import { connectionError } from '../../src/upstream/failure.ts';
import { Transport } from '../../src/upstream/transport.ts';
import { DIRECT, serve } from './support.ts';

const HERE: Found = { addresses: [{ address: '127.0.0.1', family: 4 }], ttlMs: 60_000 };

/** A transport that finds every name here; with what it was asked for. */
async function transportWith(proxy: Partial<MlflowOptions['proxy']> = {}) {
  const asked: string[] = [];
  const names = new Names(async host => {
    asked.push(host);
    return HERE;
  });
  const transport = await Transport.open(
    { ...DIRECT, proxy: { ...DIRECT.proxy, ...proxy } },
    { connections: 32 },
    names,
  );
  onTestFinished(() => transport.close());
  const ask = async (url: string) => {
    const { body } = await transport.request({
      url: new URL(url),
      method: 'GET',
      headers: {},
      signal: AbortSignal.timeout(10_000),
    });
    return await text(body);
  };
  return { asked, ask };
}

test('connections go where the look-up says', async () => {
  const mlflow = await serve(() => ({ body: 'hello' }));
  const { asked, ask } = await transportWith();
  expect(await ask(mlflow.url.replace('127.0.0.1', 'mlflow.test'))).toBe('hello');
  expect(mlflow.asked[0]?.headers.host).toMatch(/^mlflow\.test:/);
  expect(asked).toEqual(['mlflow.test']);
});

test('a name is looked up once for many connections', async () => {
  const mlflow = await serve(() => ({ body: 'hello' }));
  const { asked, ask } = await transportWith();
  const url = mlflow.url.replace('127.0.0.1', 'mlflow.test');
  await Promise.all(Array.from({ length: 10 }, () => ask(url)));
  await ask(url);
  expect(asked).toEqual(['mlflow.test']);
});

test('a proxy is looked up in the same way, and what is behind it is not looked up here', async () => {
  const proxy = await serve(({ url }) => ({ body: `proxied ${url}` }));
  const { asked, ask } = await transportWith({ http: proxy.url.replace('127.0.0.1', 'proxy.test') });
  expect(await ask('http://mlflow.test:5000/x')).toBe('proxied http://mlflow.test:5000/x');
  expect(asked).toEqual(['proxy.test']);
});

test.each([
  ['ENOTFOUND', 'mlflow_unreachable', 'MLflow: the host name is unknown.'],
  ['EAI_AGAIN', 'mlflow_unreachable', 'MLflow: the host name could not be looked up.'],
  ['ETIMEOUT', 'mlflow_timeout', 'MLflow: the host name could not be looked up in time.'],
] as const)('a look-up that ends with %s is %s', (lookupCode, code, message) => {
  expect(connectionError('MLflow', lookupError('mlflow', lookupCode))).toMatchObject({ code, message });
});
