import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { outputOf, startPython } from './python.ts';

const ROUNDS_MS = 2_000;
const LABELS = ['one', 'two', 'three'];

const ReadSchema = z.object({
  rounds: z.number(),
  labels: z.array(z.string()),
  wrong: z.array(z.string()),
});

/** Three files, which all begin with the label. */
function files(label: string) {
  return { MLmodel: `${label} a`, 'data/model.pkl': `${label} b`, 'code/module.py': `${label} c` };
}

test('while a ref is switched without pause, the published directory is always one whole version', async () => {
  const upstream = await ScriptedMlflow.start();
  const sidecar = await startSidecar({ ...upstream.env });
  onTestFinished(async () => {
    await sidecar.stop();
    await upstream.close();
  });
  for (const label of LABELS) upstream.addVersion({ name: 'churn', files: files(label) });
  upstream.models.setAlias('churn', 'champion', '1');
  await reload(sidecar.url, 'models:/churn@champion');

  // Nobody listens on that port: each call ends at the published directory.
  const env = { SIDECAR_URL: 'http://127.0.0.1:1', SIDECAR_CACHE_DIR: sidecar.cacheDir };
  const readers = [1, 2].map(() => startPython('sidecar_readers.py', ['models:/churn@champion'], env));
  const endAt = performance.now() + ROUNDS_MS;
  let switches = 0;
  while (performance.now() < endAt || switches <= 10) {
    upstream.models.setAlias('churn', 'champion', String(((switches + 1) % LABELS.length) + 1));
    const { outcome } = await reload(sidecar.url, 'models:/churn@champion', { force: switches % 10 === 9 });
    expect(outcome.status).toBe('loaded');
    switches += 1;
  }
  for (const output of await Promise.all(readers.map(reader => outputOf(reader)))) {
    const read = ReadSchema.parse(JSON.parse(output));
    expect(read.wrong).toEqual([]);
    expect(read.labels).toEqual([...LABELS].sort());
    expect(read.rounds).toBeGreaterThan(switches);
  }
});
