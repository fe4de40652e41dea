import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { Credentials } from '../../src/upstream/credentials.ts';
import type { MlflowClient } from '../../src/upstream/mlflow-client.ts';
import { call, clientFor, NO_CREDENTIAL, serve } from './support.ts';

const USER = { username: { value: 'anna' }, password: { value: 'pä:ß' }, token: null };
const TOKEN = { ...NO_CREDENTIAL, token: { value: 'abc' } };

async function secretFile(content: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-secret-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'secret');
  await writeFile(path, content);
  return path;
}

async function statusOf(
  client: MlflowClient,
  url: string,
  authorization: string | null = null,
): Promise<number> {
  const response = await client.send('MLflow', { url: new URL(url), method: 'GET' }, call(authorization));
  response.body.close();
  return response.statusCode;
}

describe('the header', () => {
  test('is none without a credential', async () => {
    await expect(new Credentials(NO_CREDENTIAL).header()).resolves.toBeNull();
  });

  test('is Basic, in UTF-8, before Bearer', async () => {
    const expected = `Basic ${Buffer.from('anna:pä:ß').toString('base64')}`;
    await expect(new Credentials({ ...USER, token: { value: 'abc' } }).header()).resolves.toBe(expected);
  });

  test('is Bearer where a user name has no password', async () => {
    const source = { username: { value: 'anna' }, password: null, token: { value: 'abc' } };
    await expect(new Credentials(source).header()).resolves.toBe('Bearer abc');
  });

  test('is of a file’s content without the line’s end', async () => {
    const file = await secretFile('  from-a-file\r\n');
    await expect(new Credentials({ ...NO_CREDENTIAL, token: { file } }).header()).resolves.toBe(
      'Bearer from-a-file',
    );
  });
});

describe('a refusal with 401', () => {
  /** Takes one token only, which may change. */
  async function guarded(accepted: { token: string }) {
    return await serve(asked =>
      asked.headers.authorization === `Bearer ${accepted.token}`
        ? { body: 'in' }
        : { status: 401, body: 'out' },
    );
  }

  test('is followed by one more try where the file holds another token by now', async () => {
    const accepted = { token: 'old' };
    const upstream = await guarded(accepted);
    const file = await secretFile('old');
    const credentials = { ...NO_CREDENTIAL, token: { file } };
    const client = await clientFor({ trusted: [upstream.url], credentials });
    expect(await statusOf(client, upstream.url)).toBe(200);
    accepted.token = 'new';
    await writeFile(file, 'new');
    expect(await statusOf(client, upstream.url)).toBe(200);
    expect(await statusOf(client, upstream.url)).toBe(200);
    expect(upstream.asked.map(asked => asked.headers.authorization)).toEqual([
      'Bearer old',
      'Bearer old',
      'Bearer new',
      'Bearer new',
    ]);
  });

  test('is followed by one more try of a small answer, too, and stands where nothing changed', async () => {
    const accepted = { token: 'old' };
    const upstream = await guarded(accepted);
    const file = await secretFile('old');
    const credentials = { ...NO_CREDENTIAL, token: { file } };
    const client = await clientFor({ trusted: [upstream.url], credentials });
    expect(await receivedStatus(client, upstream.url)).toBe(200);
    accepted.token = 'new';
    await expect(receivedStatus(client, upstream.url)).rejects.toThrow('HTTP 401');
    await writeFile(file, 'new');
    expect(await receivedStatus(client, upstream.url)).toBe(200);
    expect(upstream.asked.map(asked => asked.headers.authorization)).toEqual([
      'Bearer old',
      'Bearer old',
      'Bearer old',
      'Bearer new',
    ]);
  });

  test('stands where the file holds the same as before', async () => {
    const upstream = await guarded({ token: 'other' });
    const credentials = { ...NO_CREDENTIAL, token: { file: await secretFile('old') } };
    const client = await clientFor({ trusted: [upstream.url], credentials });
    expect(await statusOf(client, upstream.url)).toBe(401);
    expect(upstream.asked).toHaveLength(1);
  });

  test('of a caller’s own credential is not answered with the sidecar’s', async () => {
    const upstream = await guarded({ token: 'abc' });
    const client = await clientFor({ trusted: [upstream.url], credentials: TOKEN });
    expect(await statusOf(client, upstream.url, 'Bearer mine')).toBe(401);
    expect(upstream.asked.map(asked => asked.headers.authorization)).toEqual(['Bearer mine']);
  });

  test('while the file is missing stays a refusal, and ends when the file is there again', async () => {
    const accepted = { token: 'old' };
    const upstream = await guarded(accepted);
    const file = await secretFile('old');
    const client = await clientFor({
      trusted: [upstream.url],
      credentials: { ...NO_CREDENTIAL, token: { file } },
    });
    expect(await statusOf(client, upstream.url)).toBe(200);
    accepted.token = 'new';
    await rename(file, `${file}.away`);
    expect(await statusOf(client, upstream.url)).toBe(401);
    await writeFile(file, 'new');
    expect(await statusOf(client, upstream.url)).toBe(200);
  });
});

/** @throws Error naming any status but 200 */
async function receivedStatus(client: MlflowClient, url: string): Promise<number> {
  let status = 0;
  await client.receive('it', { url: new URL(url), method: 'GET' }, call(), {
    head: ({ statusCode }) => {
      if (statusCode !== 200) throw new SidecarError('mlflow_error', `HTTP ${statusCode}`);
      status = statusCode;
    },
    data: () => undefined,
    broken: () => new SidecarError('mlflow_error', 'broken'),
  });
  return status;
}

describe('who gets what', () => {
  test('a trusted origin gets the credential and the workspace', async () => {
    const upstream = await serve(() => ({}));
    const client = await clientFor({ trusted: [upstream.url], credentials: TOKEN, workspace: 'team-a' });
    await statusOf(client, `${upstream.url}/x`);
    expect(upstream.asked[0]?.headers).toMatchObject({
      authorization: 'Bearer abc',
      'x-mlflow-workspace': 'team-a',
      'accept-encoding': 'identity',
      'user-agent': 'mlflow-sidecar',
    });
  });

  test('a caller’s own credential goes in the place of the sidecar’s', async () => {
    const upstream = await serve(() => ({}));
    const client = await clientFor({ trusted: [upstream.url], credentials: TOKEN });
    await statusOf(client, upstream.url, 'Basic bWU6aXQ=');
    expect(upstream.asked[0]?.headers.authorization).toBe('Basic bWU6aXQ=');
  });

  test('another origin, if only by its port, gets neither', async () => {
    const [mlflow, other] = [await serve(() => ({})), await serve(() => ({ status: 401 }))];
    const client = await clientFor({ trusted: [mlflow.url], credentials: USER, workspace: 'team-a' });
    expect(await statusOf(client, other.url)).toBe(401);
    expect(await statusOf(client, other.url, 'Bearer mine')).toBe(401);
    for (const { headers } of other.asked) {
      expect(headers).not.toHaveProperty('authorization');
      expect(headers).not.toHaveProperty('x-mlflow-workspace');
    }
  });

  test('a redirect is not followed, so the credential stays here', async () => {
    const other = await serve(() => ({}));
    const upstream = await serve(() => ({ status: 302, headers: { location: other.url } }));
    const client = await clientFor({ trusted: [upstream.url], credentials: TOKEN });
    expect(await statusOf(client, upstream.url)).toBe(302);
    expect(other.asked).toEqual([]);
  });
});

test('a credential’s file that is missing at the start is access_denied, naming the file', async () => {
  const upstream = await serve(() => ({}));
  const credentials = { ...NO_CREDENTIAL, token: { file: '/nowhere/token' } };
  const client = await clientFor({ trusted: [upstream.url], credentials });
  await expect(statusOf(client, upstream.url)).rejects.toMatchObject({
    code: 'access_denied',
    message: expect.stringContaining('/nowhere/token'),
  });
  expect(upstream.asked).toEqual([]);
});
