import { readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelFiles, reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { type Answered, startCaller } from './python.ts';

const URI = 'models:/churn/Production';

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;
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

describe('what is published is given only', () => {
  /** The record with other fields, as the sidecar writes it: one file takes the place of another. */
  async function rewrite(fields: object): Promise<void> {
    const record = join(sidecar.cacheDir, 'v1/refs/churn/Production.json');
    const before: object = JSON.parse(await readFile(record, 'utf8'));
    await unlink(record);
    await writeFile(record, JSON.stringify({ ...before, ...fields }));
  }

  async function ask(options: Readonly<Record<string, unknown>> = {}): Promise<Answered> {
    const environment = { SIDECAR_URL: 'http://127.0.0.1:1', SIDECAR_CACHE_DIR: sidecar.cacheDir };
    return await startCaller().call({ arguments: [URI], options, environment });
  }

  const now = () => Date.now() / 1_000;

  test('while MLflow confirmed it within max_stale_s, 7 days unless given', async () => {
    await rewrite({ confirmed_at: now() - 6 * 86_400 });
    expect(await ask()).toMatchObject({ value: path });
    expect((await ask({ max_stale_s: 3_600 })).error?.text).toMatch(
      /version 1, confirmed by MLflow 51840\d s ago, is older than max_stale_s=3600 allows/,
    );
    await rewrite({ confirmed_at: now() - 8 * 86_400 });
    expect((await ask()).error).toMatchObject({
      type: 'SidecarUnavailable',
      text: expect.stringContaining('older than max_stale_s=604800'),
    });
    expect(await ask({ max_stale_s: 9 * 86_400 })).toMatchObject({ value: path });
  });

  test('with a known age, of this very model, and where it is there', async () => {
    for (const [fields, why] of [
      [{ confirmed_at: null }, /does not say which one was confirmed when/],
      [{ confirmed_at: Number.NaN }, /does not say which one was confirmed when/],
      [{ confirmed_at: now(), snapshot: '../../..' }, /does not say which one was confirmed when/],
      [{ snapshot: null }, /says that there is none/],
      [{ snapshot: '0'.repeat(32) }, /names .*0{32}, which is not there/],
      [{ model_uri: 'models:/Churn/Production' }, /is not a record of models:\/churn\/Production/],
    ] as const) {
      await rewrite(fields);
      expect((await ask()).error).toMatchObject({
        type: 'SidecarUnavailable',
        text: expect.stringMatching(why),
      });
    }
  });
});
