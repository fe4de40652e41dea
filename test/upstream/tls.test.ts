import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createPlainServer, type Server } from 'node:http';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MlflowOptions } from '../../src/config/options.ts';
import { Transport } from '../../src/upstream/transport.ts';
import { call, clientFor, DIRECT, listen } from './support.ts';

const openssl = promisify(execFile);
let dir = '';

/** An authority, a server's and a client's certificate signed by it, and one that nobody signed. */
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sidecar-tls-'));
  const run = (...args: string[]) => openssl('openssl', args, { cwd: dir });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const here = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
  await run(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/CN=Our authority',
    '-days',
    '2',
  );
  await run(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'self.key',
    '-out',
    'self.pem',
    '-subj',
    '/CN=self',
    '-days',
    '2',
    '-addext',
    here,
  );
  for (const [name, extension] of [
    ['server', here],
    ['elsewhere', 'subjectAltName=DNS:elsewhere'],
    ['client', 'subjectAltName=DNS:client'],
  ]) {
    await run('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    await writeFile(join(dir, `${name}.ext`), `${extension}\n`);
    const signed = [
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      `${name}.ext`,
    ];
    await run('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...signed);
  }
  await writeFile(join(dir, 'client-both.pem'), (await pem('client.pem')) + (await pem('client.key')));
});

afterAll(() => rm(dir, { recursive: true, force: true }));

function pem(name: string): Promise<string> {
  return readFile(join(dir, name), 'utf8');
}

async function tlsServer(name: string, mutual = false): Promise<string> {
  const options = { cert: await pem(`${name}.pem`), key: await pem(`${name}.key`) };
  const asking = mutual ? { ca: await pem('ca.pem'), requestCert: true, rejectUnauthorized: true } : {};
  const server: Server = createServer({ ...options, ...asking }, (req, res) => {
    const peer = req.socket instanceof TLSSocket ? req.socket.getPeerCertificate() : null;
    res.end(JSON.stringify({ client: peer?.subject?.CN ?? null }));
  });
  return await listen(server, 'https');
}

async function ask(url: string, tls: Partial<MlflowOptions['tls']> = {}): Promise<string> {
  const client = await clientFor({
    trusted: [url],
    transport: { ...DIRECT, tls: { ...DIRECT.tls, ...tls } },
  });
  const response = await client.send('MLflow', { url: new URL(url), method: 'GET' }, call());
  return await text(response.body);
}

const REFUSED = {
  code: 'mlflow_unreachable',
  hint: expect.stringContaining('MLFLOW_TRACKING_SERVER_CERT_PATH'),
};

describe('a server whose certificate', () => {
  test('nobody signed is refused, with a hint', async () => {
    await expect(ask(await tlsServer('self'))).rejects.toMatchObject(REFUSED);
  });

  test('an authority signed that is not known here is refused, with a hint', async () => {
    await expect(ask(await tlsServer('server'))).rejects.toMatchObject(REFUSED);
  });

  test('is for another host is refused, with a hint', async () => {
    const url = await tlsServer('elsewhere');
    await expect(ask(url, { serverCertPath: join(dir, 'ca.pem') })).rejects.toMatchObject(REFUSED);
  });

  test('is signed by the authority that was named is taken', async () => {
    const url = await tlsServer('server');
    await expect(ask(url, { serverCertPath: join(dir, 'ca.pem') })).resolves.toBe('{"client":null}');
  });

  test('is itself the one that was named is taken', async () => {
    const url = await tlsServer('self');
    await expect(ask(url, { serverCertPath: join(dir, 'self.pem') })).resolves.toBe('{"client":null}');
  });

  test.each(['self', 'server', 'elsewhere'])('is any at all (%s) is taken if told so', async name => {
    await expect(ask(await tlsServer(name), { insecure: true })).resolves.toBe('{"client":null}');
  });
});

describe('a server that asks for a client’s certificate', () => {
  test('sees the one from the file that holds both', async () => {
    const tls = { serverCertPath: join(dir, 'ca.pem'), clientCertPath: join(dir, 'client-both.pem') };
    await expect(ask(await tlsServer('server', true), tls)).resolves.toBe('{"client":"client"}');
  });

  test('refuses us without one, which is mlflow_unreachable', async () => {
    const url = await tlsServer('server', true);
    await expect(ask(url, { serverCertPath: join(dir, 'ca.pem') })).rejects.toMatchObject({
      code: 'mlflow_unreachable',
    });
  });
});

test('https asked of a server that speaks http is refused, with a hint', async () => {
  const url = await listen(
    createPlainServer((_, res) => res.end('{}')),
    'https',
  );
  await expect(ask(url)).rejects.toMatchObject(REFUSED);
});

test('a certificate’s file that is not there is an error when the transport is opened', async () => {
  await expect(
    Transport.open(
      { ...DIRECT, tls: { ...DIRECT.tls, serverCertPath: '/nowhere.pem' } },
      { connections: 32 },
    ),
  ).rejects.toThrow('/nowhere.pem');
});

test('an answer that is thrown away leaves its connection free for the next one', async () => {
  const url = await tlsServer('server');
  const transport = { ...DIRECT, tls: { ...DIRECT.tls, insecure: true } };
  const client = await clientFor({ trusted: [url], transport });
  for (let n = 0; n < 50; n++)
    (await client.send('MLflow', { url: new URL(url), method: 'GET' }, call())).body.close();
});
