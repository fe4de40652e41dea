import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { contentOf, FILES, put, snapshot } from './snapshots.ts';
import { directory, run, start } from './support.ts';

const URI = 'models:/a/Production';

async function mlflow(): Promise<ScriptedMlflow> {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  upstream.addVersion({
    name: 'a',
    stage: 'Production',
    files: { MLmodel: Buffer.from('flavors: {}\n'), 'data/model.pkl': Buffer.from('bytes') },
  });
  return upstream;
}

test('a model comes into a directory, and nothing else stays', async () => {
  const upstream = await mlflow();
  const parent = directory();
  const to = join(parent, 'model');
  const { code, stdout } = await run(['fetch', URI, '--once', '--to', to], upstream.env);
  expect({ code, stdout }).toEqual({ code: 0, stdout: `✅ ${URI} (version 1) -> ${to}\n` });
  expect(readFileSync(join(to, 'data/model.pkl'), 'utf8')).toBe('bytes');
  expect(readdirSync(parent)).toEqual(['model']);
  const again = await run(['fetch', URI, '--once', '--to', to], upstream.env);
  expect(again).toMatchObject({ code: 0, stdout: `✅ ${URI} (version 1) is up to date in ${to}\n` });
});

test('a cache that was named is kept, and gives the last good version when MLflow is gone', async () => {
  const upstream = await mlflow();
  const cache = directory();
  const parent = directory();
  const first = await run(['fetch', URI, '--to', join(parent, 'one'), '--cache-dir', cache], upstream.env);
  expect(first.code).toBe(0);
  await upstream.setFault('registry', { kind: 'refused' });
  const second = await run(['fetch', URI, '--to', join(parent, 'two')], {
    ...upstream.env,
    SIDECAR_CACHE_DIR: cache,
  });
  expect(second.code).toBe(0);
  expect(second.stdout).toMatch(
    /^⚠️ The last good version, since .*\n✅ models:\/a\/Production \(version 1\) -> /,
  );
  expect(readFileSync(join(parent, 'two/MLmodel'), 'utf8')).toBe('flavors: {}\n');
});

test('a model that is not there ends with 1, the reason in one line, and no directory', async () => {
  const upstream = await mlflow();
  const parent = directory();
  const { code, stdout, stderr } = await run(
    ['fetch', 'models:/a/7', '--to', join(parent, 'model')],
    upstream.env,
  );
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr.trimEnd().split('\n').at(-1)).toMatch(
    /^mlflow-sidecar: could not load models:\/a\/7: version_not_found: /,
  );
  expect(readdirSync(parent)).toEqual([]);
});

test('an MLflow that does not answer is given up at the deadline', async () => {
  const upstream = await mlflow();
  await upstream.setFault('registry', { kind: 'silent' });
  const parent = directory();
  const { code, stderr } = await run(
    ['fetch', URI, '--to', join(parent, 'model'), '--deadline', '3'],
    upstream.env,
  );
  expect(code).toBe(1);
  expect(stderr).toMatch(/deadline_exceeded: The deadline of 3 s passed .* Allow more with --deadline\.\n$/);
  expect(readdirSync(parent)).toEqual([]);
});

test('a directory that holds something else is refused with 1', async () => {
  const upstream = await mlflow();
  const to = directory();
  mkdirSync(join(to, 'mine'));
  const { code, stderr } = await run(['fetch', URI, '--to', to], upstream.env);
  expect(code).toBe(1);
  expect(stderr).toContain(`${to} holds something else, and is never overwritten`);
  expect(readdirSync(to)).toEqual(['mine']);
});

test('a container that starts again gets the new version, or keeps the old one while MLflow is down', async () => {
  const upstream = await mlflow();
  const to = join(directory(), 'model');
  const fetch = () => run(['fetch', URI, '--to', to, '--deadline', '5'], upstream.env);
  expect((await fetch()).code).toBe(0);
  upstream.addVersion({ name: 'a', stage: 'Production', files: { MLmodel: Buffer.from('flavors: {2}\n') } });
  await upstream.setFault('registry', { kind: 'refused' });
  const kept = await fetch();
  expect(kept.code).toBe(0);
  expect(kept.stdout).toMatch(
    /^⚠️ Kept what an earlier fetch put there: could not load .*connection refused.*\n/,
  );
  expect(kept.stdout).toContain(`\n✅ ${URI} (version 1) stays in ${to}\n`);
  expect(readFileSync(join(to, 'data/model.pkl'), 'utf8')).toBe('bytes');
  await upstream.clearFaults();
  expect(await fetch()).toMatchObject({ code: 0, stdout: `✅ ${URI} (version 2) -> ${to}\n` });
  expect(readdirSync(to).toSorted()).toEqual(['.mlflow-sidecar.json', 'MLmodel']);
});

test('a model of which MLflow says that it is not there is not kept as if it were', async () => {
  const upstream = await mlflow();
  const to = join(directory(), 'model');
  await put(snapshot(), to, { uri: 'models:/a/7', version: '7' });
  const { code, stderr } = await run(['fetch', 'models:/a/7', '--to', to], upstream.env);
  expect(code).toBe(1);
  expect(stderr).toContain('version_not_found');
  expect(contentOf(to)).toEqual(FILES);
});

test('a directory that is not whole any more is not kept', async () => {
  const upstream = await mlflow();
  const to = join(directory(), 'model');
  await run(['fetch', URI, '--to', to], upstream.env);
  rmSync(join(to, 'data'), { recursive: true });
  await upstream.setFault('registry', { kind: 'refused' });
  const { code, stdout, stderr } = await run(['fetch', URI, '--to', to], upstream.env);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain('mlflow_unreachable');
});

test('a write into the directory leaves a cache that was named as it is', async () => {
  const upstream = await mlflow();
  const [cache, parent] = [directory(), directory()];
  const fetch = (name: string) =>
    run(['fetch', URI, '--to', join(parent, name), '--cache-dir', cache], upstream.env);
  await fetch('one');
  const path = join(parent, 'one/MLmodel');
  expect(statSync(path)).toMatchObject({ nlink: 1 });
  chmodSync(path, 0o644);
  writeFileSync(path, 'changed');
  await fetch('two');
  expect(readFileSync(join(parent, 'two/MLmodel'), 'utf8')).toBe('flavors: {}\n');
});

test('SIGTERM ends it within 5 s with 143, and nothing is left', async () => {
  const upstream = await mlflow();
  await upstream.setFault('file', { kind: 'silent' });
  const parent = directory();
  chmodSync(parent, 0o755);
  const { child, ended } = start(['fetch', URI, '--to', join(parent, 'model')], upstream.env);
  await expect.poll(() => upstream.counts('route').get('file')).toBeGreaterThan(0);
  const asked = performance.now();
  child.kill('SIGTERM');
  expect((await ended).code).toBe(143);
  expect(performance.now() - asked).toBeLessThan(atMost(5_000));
  expect(existsSync(join(parent, 'model'))).toBe(false);
  expect(readdirSync(parent)).toEqual([]);
});
