import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { reload } from './harness.ts';

const URI = 'models:/churn/Production';
const MAX_BYTES = 1_048_576;

test('a version for which the cache has no room leaves the last good one, with the numbers and the option’s name', async () => {
  const upstream = await ScriptedMlflow.start();
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-quota-'));
  const env = { ...upstream.env, SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
  const sidecar = await startSidecar(env);
  onTestFinished(async () => {
    await sidecar.stop();
    await upstream.close();
    await rm(dir, { recursive: true, force: true });
  });
  const add = (bytes: number) =>
    upstream.addVersion({
      name: 'churn',
      stage: 'Production',
      files: { MLmodel: 'flavors: {}\n', 'large.bin': Buffer.alloc(bytes, String(bytes)) },
    });

  add(600_000);
  const first = (await reload(sidecar.url, URI)).outcome;
  expect(first).toMatchObject({ status: 'loaded', version: '1' });

  add(700_000);
  const second = (await reload(sidecar.url, URI)).outcome;
  expect(second).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', path: first.path });
  expect(second.warning).toMatchObject({ code: 'disk_full', hint: 'Raise SIDECAR_CACHE_MAX_BYTES.' });
  expect(second.warning?.message).toMatch(
    /no room for the 684 KiB that the version needs.* It holds 586 KiB of 1\.0 MiB \(SIDECAR_CACHE_MAX_BYTES\)/,
  );

  add(MAX_BYTES);
  const third = (await reload(sidecar.url, URI)).outcome;
  expect(third).toMatchObject({ status: 'stale', version: '1', wanted_version: '3' });
  expect(third.warning?.message).toContain('more than the whole cache may hold');

  add(300_000);
  expect((await reload(sidecar.url, URI)).outcome).toMatchObject({
    status: 'loaded',
    version: '4',
    warning: null,
  });
  const status: unknown = await (await fetch(`${sidecar.url}/v1/status`)).json();
  expect(status).toMatchObject({ cache: { max_bytes: MAX_BYTES, free_bytes: expect.any(Number) } });
});
