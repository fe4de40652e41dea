import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';

const SIGNALS = JSON.stringify(new URL('../../src/cli/signals.ts', import.meta.url).href);

/** A process that is asked to end and hangs. */
async function hanging(graceMs: number) {
  const program = `import { listenForSignals } from ${SIGNALS};
    const { first } = listenForSignals(${graceMs});
    setInterval(() => {}, 1_000);
    console.log('ready');
    console.log(await first);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

test('the second signal ends it at once', async () => {
  const child = await hanging(60_000);
  child.kill('SIGTERM');
  expect(String((await once(child.stdout, 'data'))[0])).toBe('SIGTERM\n');
  child.kill('SIGINT');
  expect((await once(child, 'close'))[0]).toBe(130);
});

test('what does not end in the time of grace is ended', async () => {
  const child = await hanging(200);
  const asked = performance.now();
  child.kill('SIGTERM');
  expect((await once(child, 'close'))[0]).toBe(143);
  expect(performance.now() - asked).toBeLessThan(atMost(3_000));
});
