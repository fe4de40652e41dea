import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import type { MlflowOptions } from '../../src/config/options.ts';
import { call, clientFor, DIRECT, listen, serve } from './support.ts';

interface Proxy {
  readonly url: string;
  /** What it was asked for, as `GET http://…` or `CONNECT host:port`. */
  readonly asked: readonly string[];
  readonly credentials: readonly (string | undefined)[];
}

/** A proxy as companies have it: forwards absolute addresses, and tunnels to hosts. */
async function startProxy(): Promise<Proxy> {
  const asked: string[] = [];
  const credentials: (string | undefined)[] = [];
  const server = createServer((req, res) => {
    asked.push(`${req.method} ${req.url}`);
    credentials.push(req.headers['proxy-authorization']);
    const onward = request(req.url ?? '', { method: req.method ?? 'GET', headers: req.headers }, answer => {
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    req.pipe(onward);
  });
  server.on('connect', (req, socket, head) => {
    asked.push(`CONNECT ${req.url}`);
    credentials.push(req.headers['proxy-authorization']);
    const [host = '', port = ''] = (req.url ?? '').split(':');
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  return { url: await listen(server), asked, credentials };
}

async function ask(url: string, proxy: Partial<MlflowOptions['proxy']>): Promise<string> {
  const transport = { ...DIRECT, proxy: { ...DIRECT.proxy, ...proxy } };
  const client = await clientFor({ trusted: [url], transport });
  const response = await client.send('MLflow', { url: new URL(`${url}/path?a=b`), method: 'GET' }, call());
  return await text(response.body);
}

describe('an MLflow at http:', () => {
  test('is asked through HTTP_PROXY', async () => {
    const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
    await expect(ask(mlflow.url, { http: proxy.url })).resolves.toBe('hello');
    expect(proxy.asked).toHaveLength(1);
    expect(mlflow.asked[0]?.url).toBe('/path?a=b');
    expect(mlflow.asked[0]?.headers.host).toBe(new URL(mlflow.url).host);
  });

  test('is asked by its whole address, since a proxy need not tunnel to any port', async () => {
    const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
    await ask(mlflow.url, { http: proxy.url });
    expect(proxy.asked).toEqual([`GET ${mlflow.url}/path?a=b`]);
  });

  test('is asked with the proxy’s own credential, which MLflow does not see', async () => {
    const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
    await ask(mlflow.url, { http: proxy.url.replace('//', '//anna:secret@') });
    expect(proxy.credentials).toEqual([`Basic ${Buffer.from('anna:secret').toString('base64')}`]);
    expect(mlflow.asked[0]?.headers).not.toHaveProperty('authorization');
  });

  test.each(['127.0.0.1', 'mlflow, 127.0.0.1', '*'])(
    'is asked directly where NO_PROXY is %j',
    async noProxy => {
      const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
      await expect(ask(mlflow.url, { http: proxy.url, noProxy })).resolves.toBe('hello');
      expect(proxy.asked).toEqual([]);
    },
  );

  test('is asked through the proxy where NO_PROXY names others', async () => {
    const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
    await ask(mlflow.url, { http: proxy.url, noProxy: 'example.com, 127.0.0.10' });
    expect(proxy.asked).toHaveLength(1);
  });

  test('is asked directly where only HTTPS_PROXY is set', async () => {
    const [proxy, mlflow] = [await startProxy(), await serve(() => ({ body: 'hello' }))];
    await expect(ask(mlflow.url, { https: proxy.url })).resolves.toBe('hello');
    expect(proxy.asked).toEqual([]);
  });

  test('behind a proxy that is not there is mlflow_unreachable', async () => {
    const mlflow = await serve(() => ({ body: 'hello' }));
    await expect(ask(mlflow.url, { http: 'http://127.0.0.1:1' })).rejects.toMatchObject({
      code: 'mlflow_unreachable',
    });
    expect(mlflow.asked).toEqual([]);
  });
});

describe('an MLflow at https:', () => {
  /** Nobody speaks TLS there; it is enough to see which way it was tried. */
  async function way(proxy: Partial<MlflowOptions['proxy']>): Promise<void> {
    const plain = await serve(() => ({}));
    await ask(plain.url.replace('http:', 'https:'), proxy).catch(() => undefined);
  }

  test('is asked through a tunnel by HTTPS_PROXY', async () => {
    const proxy = await startProxy();
    await way({ https: proxy.url });
    expect(proxy.asked).toEqual([expect.stringMatching(/^CONNECT 127\.0\.0\.1:\d+$/)]);
  });

  test('is asked directly where only HTTP_PROXY is set, as MLflow’s own client does', async () => {
    const proxy = await startProxy();
    await way({ http: proxy.url });
    expect(proxy.asked).toEqual([]);
  });
});
