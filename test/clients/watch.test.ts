import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { modelFiles, until, wrongFiles } from '../faults/harness.ts';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { linesOf, startPython } from './python.ts';
import { oddServer } from './servers.ts';

const URI = 'models:/churn@champion';

let upstream: ScriptedMlflow;
let cacheDir: string;
const cacheDirs: string[] = [];
let port: string;

beforeEach(async () => {
  upstream = await ScriptedMlflow.start();
  for (const label of ['churn-1', 'churn-2'])
    upstream.addVersion({ name: 'churn', files: modelFiles(label) });
  upstream.models.setAlias('churn', 'champion', '1');
  cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-watched-'));
  cacheDirs.push(cacheDir);
  port = String(await freePort());
});

afterEach(() => upstream.close());

// Sidecars end after each test's own hooks, and what they write until then is theirs.
afterAll(async () => {
  for (const dir of cacheDirs) await rm(dir, { recursive: true, force: true });
});

async function sidecar(): Promise<RunningSidecar> {
  const started = await startSidecar({ ...upstream.env, SIDECAR_PORT: port, SIDECAR_CACHE_DIR: cacheDir });
  onTestFinished(async () => void (await started.stop()));
  return started;
}

const LineSchema = z.union([
  z.strictObject({ path: z.string() }),
  z.strictObject({ log: z.string() }),
  z.strictObject({ heard: z.string() }),
  z.strictObject({ stopped_s: z.number() }),
]);

/** A process that asks for the alias ten times a second. */
function watching(url = `http://127.0.0.1:${port}`) {
  const env = { SIDECAR_URL: url, SIDECAR_CACHE_DIR: cacheDir };
  const child = startPython('sidecar_watch.py', [URI, '0.1'], env);
  const lines = linesOf(child);
  return {
    next: async () => LineSchema.parse(await lines.next()),
    say: (word: string) => void child.stdin?.write(`${word}\n`),
    stop: () => void child.stdin?.end(),
  };
}

const pathIn = (line: z.infer<typeof LineSchema>): string | null => ('path' in line ? line.path : null);

test('calls with the first directory and on each change; tells once that the sidecar is gone, and that it is back', async () => {
  const first = await sidecar();
  const watcher = watching();
  const one = pathIn(await watcher.next());
  expect(await wrongFiles(one, modelFiles('churn-1'))).toEqual([]);
  upstream.models.setAlias('churn', 'champion', '2');
  const two = pathIn(await watcher.next());
  expect(await wrongFiles(two, modelFiles('churn-2'))).toEqual([]);

  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  expect(await watcher.next()).toEqual({
    log: expect.stringMatching(
      /^WARNING models:\/churn@champion: .* does not answer .* The published version 2, /,
    ),
  });
  await sidecar();
  expect(await watcher.next()).toEqual({
    log: 'INFO models:/churn@champion: the sidecar gives the newest version again.',
  });
  upstream.models.setAlias('churn', 'champion', '1');
  expect(pathIn(await watcher.next())).toBe(one);
  watcher.stop();
  expect(await watcher.next()).toEqual({ stopped_s: expect.any(Number) });
});

test('calls again with a directory whose callback failed, until it returns', async () => {
  await sidecar();
  const watcher = watching();
  // On a busy machine an answer may be late, and a line says so.
  const next = async () => {
    for (;;) {
      const line = await watcher.next();
      if ('log' in line ? line.log.startsWith('ERROR') : !('heard' in line)) return line;
    }
  };
  const one = pathIn(await next());
  watcher.say('fail');
  while (!('heard' in (await watcher.next())));
  upstream.models.setAlias('churn', 'champion', '2');
  const two = pathIn(await next());
  expect(two).not.toBe(one);
  for (let turn = 0; turn < 3; turn += 1) {
    expect(await next()).toEqual({
      log: `ERROR ${URI}: the callback failed for ${two} and will be called again.`,
    });
    expect(await next()).toEqual({ path: two });
  }
  watcher.say('work');
  // Some turns more: it must not be called any more by then.
  await delay(600);
  watcher.stop();
  const rest = [];
  for (let line = await next(); !('stopped_s' in line); line = await next()) rest.push(line);
  const [calls, failures] = [rest.filter(line => pathIn(line) === two), rest.filter(line => 'log' in line)];
  expect(rest).toHaveLength(calls.length + failures.length);
  // The first of these lines is about the call before.
  expect(calls).toHaveLength(failures.length);
});

test('stops at once, though the sidecar does not answer', async () => {
  const server = await oddServer(() => undefined);
  const watcher = watching(server.url);
  await until(5_000, async () => (server.requests.length > 0 ? true : null));
  watcher.stop();
  const line = await watcher.next();
  expect('stopped_s' in line ? line.stopped_s * 1_000 : line).toBeLessThan(atMost(500));
});
