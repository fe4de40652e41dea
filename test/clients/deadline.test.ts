import { mkdtemp, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelFiles, reload, until } from '../faults/harness.ts';
import { freePort } from '../support/free-port.ts';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { type Answered, type Caller, startCaller } from './python.ts';
import { answer, drip, oddServer, pour } from './servers.ts';

const DEADLINE_S = 0.5;
const GRACE_S = 0.3;
/** What needs no waiting for. */
const AT_ONCE_S = 0.4;
/** Of which the sidecar has a little less, so that its own word comes in time. */
const WAITING_S = IS_STRICT ? 2 : 5;
const TOO_LATE = /did not answer within 0\.5 s/;

const URI = 'models:/churn/Production';

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;
/** What the sidecar published. */
let path: string | null;
let emptyDir: string;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  upstream.addVersion({ name: 'churn', stage: 'Production', files: modelFiles('churn-1') });
  sidecar = await startSidecar({ ...upstream.env });
  path = (await reload(sidecar.url, URI)).outcome.path;
  emptyDir = await mkdtemp(join(tmpdir(), 'sidecar-empty-'));
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
  await rm(emptyDir, { recursive: true, force: true });
});

/** Asks where no sidecar answers: once with the cache of one, once without. */
async function askTwice(caller: Caller, url: string): Promise<readonly [Answered, Answered]> {
  const call = (cacheDir: string) =>
    caller.call({
      arguments: [URI],
      options: { deadline_s: DEADLINE_S },
      environment: { SIDECAR_URL: url, SIDECAR_CACHE_DIR: cacheDir },
    });
  return [await call(sidecar.cacheDir), await call(emptyDir)];
}

/** The published directory and one warning, or both reasons; each within `limitS`. */
function expectFallback(
  [given, refused]: readonly [Answered, Answered],
  why: RegExp,
  limitS: number,
  name?: string,
): void {
  expect({ name, ...given }).toEqual({
    name,
    value: path,
    error: null,
    log: [expect.any(String)],
    s: given.s,
  });
  expect(given.log[0], name).toMatch(why);
  expect(given.log[0]).toMatch(
    /^WARNING models:\/churn\/Production: .* The published version 1, confirmed by MLflow \d+ s ago, is given\.$/,
  );
  expect(given.s * 1_000, name).toBeLessThan(atMost(limitS * 1_000));
  expect({ name, ...refused }).toMatchObject({ name, error: { type: 'SidecarUnavailable' }, log: [] });
  expect(refused.error?.text, name).toMatch(why);
  expect(refused.error?.text).toMatch(
    / Nor can a published version be given: .*Production\.json is not there\./,
  );
  expect(refused.s * 1_000, name).toBeLessThan(atMost(limitS * 1_000));
}

const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = `${OK}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`;

const HANGS: Readonly<Record<string, (socket: Socket) => void>> = {
  'says nothing': () => undefined,
  'sends its headers one byte a second': drip('', 'H', 1_000),
  'sends its body one byte a second': drip(`${OK}content-length: 5000\r\n\r\n`, '{', 1_000),
  'sends a body in chunks of one byte, for ever': drip(CHUNKED, '1\r\n{\r\n', 20),
  'sends interim answers for ever': drip('', 'HTTP/1.1 100 Continue\r\n\r\n', 1),
  'stops in the middle of its body': socket =>
    void socket.write(`${OK}content-length: 5000\r\n\r\n{"models"`),
};

describe('within its deadline, from a sidecar that', () => {
  test('answers too slowly, in any of these ways', async () => {
    await Promise.all(
      Object.entries(HANGS).map(async ([name, act]) => {
        const server = await oddServer(act);
        const caller = startCaller();
        const answers = await askTwice(caller, server.url);
        expectFallback(answers, TOO_LATE, DEADLINE_S + GRACE_S, name);
        // What was given up has hung up, though the process lives on.
        await untilLeft(caller, server);
        expect(await caller.end(), name).toBeLessThan(atMost(1_000));
      }),
    );
  });

  test('stands still (SIGSTOP)', async () => {
    const caller = startCaller();
    process.kill(sidecar.pid, 'SIGSTOP');
    const answers = await askTwice(caller, sidecar.url);
    process.kill(sidecar.pid, 'SIGCONT');
    expectFallback(answers, TOO_LATE, DEADLINE_S + GRACE_S);
    expect(await caller.end()).toBeLessThan(atMost(1_000));
  });

  test('speaks no TLS where it should', async () => {
    const server = await oddServer(() => undefined);
    const caller = startCaller();
    const url = server.url.replace('http:', 'https:');
    expectFallback(await askTwice(caller, url), TOO_LATE, DEADLINE_S + GRACE_S);
    await until(2_000, async () => (server.connections() === 0 ? true : null));
    expect(await caller.end()).toBeLessThan(atMost(1_000));
  });

  test('has a name that hangs, which keeps nobody from ending either', async () => {
    const caller = startCaller();
    await caller.call({ function: 'hang_in_getaddrinfo' });
    const answers = await askTwice(caller, 'http://sidecar.test:5080');
    expectFallback(answers, TOO_LATE, DEADLINE_S + GRACE_S);
    expect(await caller.call({ function: 'threads' })).toMatchObject({ value: 2 });
    expect(await caller.end()).toBeLessThan(atMost(1_000));
  });
});

const problem = (status: number, code: string, detail: string) =>
  answer(status, 'application/problem+json', JSON.stringify({ code, detail, hint: 'Wait.', status }));

const FAILS: Readonly<Record<string, readonly [(socket: Socket) => void, RegExp]>> = {
  'resets the connection': [
    socket => void socket.resetAndDestroy(),
    /does not answer \(ConnectionResetError/,
  ],
  'hangs up': [socket => void socket.end(), /does not answer \(RemoteDisconnected/],
  'speaks no HTTP': [socket => void socket.end('SSH-2.0-OpenSSH_9.2\r\n'), /does not answer \(BadStatusLine/],
  'sends endless headers': [
    pour(OK, `x: ${'y'.repeat(1_000)}\r\n`),
    /does not answer \(HTTPException\('got more than 100 headers/,
  ],
  'sends one endless header': [pour(`${OK}x: `, 'y'), /does not answer \(LineTooLong/],
  'sends an endless body': [
    pour(`${OK}content-type: application/json\r\n\r\n`, '{"models": ['),
    /answers with more than 1 MiB/,
  ],
  'answers 500': [answer(500, 'text/plain', 'Internal Server Error'), /answers HTTP 500 as no sidecar does/],
  'fails inside': [problem(500, 'internal', 'It failed.'), /answers internal: It failed\. /],
  'is overloaded': [problem(503, 'overloaded', 'More calls come.'), /answers overloaded: More calls come/],
  'limits the rate': [problem(429, 'rate_limited', 'Too many.'), /answers rate_limited: Too many/],
  'answers HTML': [answer(200, 'text/html', '<h1>Sign in</h1>'), /answers HTTP 200 as no sidecar does/],
  'answers other JSON': [
    answer(200, 'application/json', '{"models": [{"path": 7}]}'),
    /HTTP 200 as no sidecar does/,
  ],
  'answers no models': [
    answer(200, 'application/json', '{"models": []}'),
    /answers HTTP 200 as no sidecar does/,
  ],
  'answers nested JSON': [
    answer(200, 'application/json', '['.repeat(200_000)),
    /answers HTTP 200 as no sidecar does/,
  ],
  'stands behind a proxy with a password': [
    answer(401, 'text/html', '<h1>401</h1>'),
    /answers HTTP 401 as no sidecar does/,
  ],
};

/** Until the helper holds neither a connection nor a thread. */
async function untilLeft(caller: Caller, server: { connections(): number }): Promise<void> {
  await until(2_000, async () => (server.connections() === 0 ? true : null));
  await until(2_000, async () => ((await caller.call({ function: 'threads' })).value === 0 ? true : null));
}

describe('at once, from a sidecar that', () => {
  test.for(Object.entries(FAILS))('%s', async ([, [act, why]]) => {
    const server = await oddServer(act);
    const caller = startCaller();
    expectFallback(await askTwice(caller, server.url), why, AT_ONCE_S);
    await untilLeft(caller, server);
  });

  test('is not there', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    expectFallback(await askTwice(startCaller(), url), /does not answer \(ConnectionRefusedError/, AT_ONCE_S);
  });

  test('sends elsewhere, where nobody is asked and no token goes', async () => {
    const elsewhere = await oddServer(answer(200, 'text/plain', 'thanks'));
    const redirect = answer(307, 'text/plain', '', `location: ${elsewhere.url}/v1/reload\r\n`);
    const server = await oddServer(redirect);
    const caller = startCaller({ SIDECAR_TOKEN: 's3cret' });
    expectFallback(await askTwice(caller, server.url), /answers HTTP 307 as no sidecar does/, AT_ONCE_S);
    expect(server.requests).toHaveLength(2);
    expect(server.requests[0]).toContain('Authorization: Bearer s3cret');
    expect(elsewhere.requests).toEqual([]);
  });
});

test('a sidecar that waits for MLflow has its own word within the deadline', async () => {
  await upstream.setFault('registry', { kind: 'silent' });
  const answered = await startCaller().call({
    arguments: ['models:/other/Production'],
    options: { deadline_s: WAITING_S },
    environment: { SIDECAR_URL: sidecar.url },
  });
  await upstream.clearFaults();
  expect(answered).toMatchObject({ error: { type: 'ModelUnavailable', code: 'deadline_exceeded' }, log: [] });
  expect(answered.s * 1_000).toBeLessThan(atMost((WAITING_S + GRACE_S) * 1_000));
});
