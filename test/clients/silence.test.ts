import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { modelFiles, reload } from '../faults/harness.ts';
import { freePort } from '../support/free-port.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { GREEN_PYTHON, linesOf, startCaller, startPython } from './python.ts';
import { drip, oddServer } from './servers.ts';

const URI = 'models:/churn/Production';
/** Much more than the 4.5 s that a silent sidecar is given, and much less than the call's deadline. */
const SOON_S = 25;
const DEADLINE_S = 60;

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;
/** What the sidecar published. */
let path: string | null;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  upstream.addVersion({ name: 'churn', stage: 'Production', files: modelFiles('churn-1') });
  sidecar = await startSidecar({ ...upstream.env });
  path = (await reload(sidecar.url, URI)).outcome.path;
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
});

async function emptyCache(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-client-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function call(url: string, deadlineS = DEADLINE_S, cacheDir = sidecar.cacheDir) {
  const environment = { SIDECAR_URL: url, SIDECAR_CACHE_DIR: cacheDir };
  return { arguments: [URI], options: { deadline_s: deadlineS }, environment };
}

describe('a sidecar that is silent', () => {
  test('costs a few seconds where a version is published, in whatever way it is', async () => {
    const silent = await oddServer(() => undefined);
    const dripping = await oddServer(drip('', 'HTTP/1.1 100 Continue\r\n\r\n', 50));
    const urls = [silent.url, dripping.url, silent.url.replace('http:', 'https:')];
    const answers = await Promise.all(urls.map(url => startCaller().call(call(url))));
    for (const { value, error, s, log } of answers) {
      expect([value, error, s < SOON_S]).toEqual([path, null, true]);
      expect(log[0]).toMatch(
        /is silent, and its \/healthz does not answer within 2 s either\. The published version 1/,
      );
    }
  });

  test('has all of the deadline where none is, and where it stands still it has what is published given', async () => {
    const { url } = await oddServer(() => undefined);
    const refused = await startCaller().call(call(url, 6, await emptyCache()));
    expect(refused.error?.text).toContain('did not answer within 6 s');
    process.kill(sidecar.pid, 'SIGSTOP');
    const given = await startCaller().call(call(sidecar.url));
    process.kill(sidecar.pid, 'SIGCONT');
    expect([given.value, given.error, given.s < SOON_S]).toEqual([path, null, true]);
  });

  test('but alive is waited for: it downloads the newer version that MLflow names', async () => {
    let asked = 0;
    const outcome = {
      ...{ status: 'loaded', version: '2', path: tmpdir(), age_s: 0, warning: null },
    };
    const server = createServer((req, res) => {
      if (req.url === '/healthz') {
        asked++;
        return void res.end('{"status": "ok"}');
      }
      res.setHeader('content-type', 'application/json');
      setTimeout(() => res.end(JSON.stringify({ models: [outcome] })), 6_000);
    });
    const port = await freePort();
    server.listen(port, '127.0.0.1');
    onTestFinished(() => void server.close());
    const answered = await startCaller().call(call(`http://127.0.0.1:${port}`));
    expect(answered).toMatchObject({ value: expect.stringContaining(tmpdir()), error: null, log: [] });
    expect(asked).toBeGreaterThan(0);
  });
});

describe('a disk', () => {
  test('whose record is no file keeps nobody', async () => {
    const cacheDir = await emptyCache();
    const refs = join(cacheDir, 'v1', 'refs', 'churn');
    await mkdir(refs, { recursive: true });
    await promisify(execFile)('mkfifo', [join(refs, 'Production.json')]);
    const answered = await startCaller().call(
      call(`http://127.0.0.1:${await freePort()}`, DEADLINE_S, cacheDir),
    );
    expect(answered.error?.text).toContain('Production.json cannot be read: it is not a regular file.');
    expect(answered.s).toBeLessThan(SOON_S);
  });

  test('that hangs keeps a call no longer than its deadline', async () => {
    const caller = startCaller();
    await caller.call({ function: 'hang_on_disk' });
    const given = await caller.call(call(sidecar.url, 3));
    expect(given.error).toMatchObject({
      type: 'CacheNotMounted',
      text: expect.stringContaining('disk does not answer'),
    });
    const down = call(`http://127.0.0.1:${await freePort()}`, 0.3);
    // And no more threads than a few, however often it is asked.
    for (let turn = 0; turn < 12; turn++) {
      const { error } = await caller.call(down);
      expect(error).toMatchObject({
        type: 'SidecarUnavailable',
        text: expect.stringContaining('disk does not answer'),
      });
    }
    expect((await caller.call({ function: 'threads' })).value).toBe(8);
  }, 60_000);
});

const GreenSchema = z.object({ value: z.unknown(), error: z.string().nullable(), turns: z.number() });

describe.each(['eventlet', 'gevent'])('under %s', library => {
  async function green(url: string, name: 'model_path' | 'watch') {
    const env = { SIDECAR_URL: url, SIDECAR_CACHE_DIR: sidecar.cacheDir };
    const child = startPython('green_calls.py', [library, name, URI], env, GREEN_PYTHON);
    return GreenSchema.parse(await linesOf(child).next());
  }

  test('a model is given by the sidecar, and by what is published where that is silent or gone', async () => {
    const silent = await oddServer(() => undefined);
    const gone = `http://127.0.0.1:${await freePort()}`;
    for (const url of [sidecar.url, silent.url, silent.url.replace('http:', 'https:'), gone])
      expect([url, await green(url, 'model_path')]).toMatchObject([url, { value: path, error: null }]);
  });

  test('others have their turn meanwhile', async () => {
    const { url } = await oddServer(() => undefined);
    expect((await green(url, 'model_path')).turns).toBeGreaterThan(5);
  });

  test('a model is watched', async () => {
    expect(await green(sidecar.url, 'watch')).toMatchObject({ value: true, error: null });
  });
});
