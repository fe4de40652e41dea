import { expect, test } from 'vitest';
import { stageOf, statusOf, WARM } from './breaker-stage.ts';
import { modelFiles, reload } from './harness.ts';

const BROKEN = { kind: 'status', status: 500, body: 'NoSuchKey' } as const;
const TIMES = 8;

/** One after the other, so that each begins after the last failure was counted. */
async function often(ask: (n: number) => Promise<unknown>): Promise<void> {
  for (let n = 0; n < TIMES; n++) await ask(n);
}

test('one version whose files all answer 500 leaves the artifact server’s breaker closed for the others', async () => {
  const { upstream, url } = await stageOf();
  const files = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`data/${n}`, `${n}`]));
  const { root } = upstream.addVersion({
    name: 'poisoned',
    stage: 'Production',
    files: { ...modelFiles('poisoned-1'), ...files },
  });
  await upstream.setFault('file', BROKEN, { when: ({ path }) => path.includes(root) });
  await often(() => reload(url, 'models:/poisoned/Production', { deadline_s: 0.3 }));
  upstream.addVersion({ name: 'healthy', stage: 'Production', files: modelFiles('healthy-1') });
  expect((await reload(url, 'models:/healthy/Production')).outcome).toMatchObject({
    status: 'loaded',
    breaker: 'closed',
  });
  expect((await statusOf(url)).breakers.map(({ state }) => state)).toEqual(['closed', 'closed', 'closed']);
});

test('questions that MLflow always answers with 500 leave the registry to the others', async () => {
  const { upstream, url } = await stageOf();
  const isBad = ({ url: asked }: { readonly url: string }) => /version=\d{20}|page_token=bad/.test(asked);
  await upstream.setFault('registry', BROKEN, { when: isBad });
  const through = (path: string) => fetch(`${url}/api/2.0/mlflow/${path}`);
  await Promise.all(
    Array.from({ length: TIMES }, async (_, n) => {
      const version = String(n + 1).repeat(20);
      await through(`model-versions/get?name=warm-${n}&version=${version}`);
      await through(`registered-models/search?page_token=bad${n}`);
    }),
  );
  expect((await reload(url, WARM)).outcome).toMatchObject({ status: 'unchanged', breaker: 'closed' });
});
