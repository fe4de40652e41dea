import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import { directory, run, start } from './support.ts';

const LISTENING = /"url":"(?<url>[^"]+)"/;

function env(): Readonly<Record<string, string>> {
  return { MLFLOW_TRACKING_URI: 'http://127.0.0.1:9', SIDECAR_PORT: '0', SIDECAR_CACHE_DIR: directory() };
}

describe('serve', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('answers until %s, then ends with 0', async signal => {
    const { child, ended, stdoutWith } = start(['serve'], env());
    const url = (await stdoutWith(LISTENING)).groups?.['url'] ?? '';
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const asked = performance.now();
    child.kill(signal);
    const { code, stdout, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(performance.now() - asked).toBeLessThan(atMost(5_000));
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines.at(-1)).toMatchObject({ level: 'info', msg: 'Stopped.' });
  });

  test('an unknown variable is logged as a warning', async () => {
    const { child, ended, stdoutWith } = start(['serve'], { ...env(), SIDECAR_PROT: '1' });
    await stdoutWith(LISTENING);
    child.kill('SIGTERM');
    expect((await ended).stdout).toMatch(/"level":"warn".*SIDECAR_PROT is not an option/);
  });

  test('a port that is taken is told in one line, with what to do', async () => {
    const port = await freePort();
    const other = createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    onTestFinished(() => void other.close());
    const { code, stderr } = await run(['serve', '--port', String(port)], env());
    expect(code).toBe(1);
    expect(stderr).toBe(
      `mlflow-sidecar: cannot listen on 127.0.0.1, port ${port}: something else listens there, perhaps another sidecar. Stop it, or choose another port with SIDECAR_PORT or --port.\n`,
    );
  });

  test('a wrong configuration stops the start', async () => {
    const { code, stdout, stderr } = await run(['serve'], { MLFLOW_TRACKING_URI: 'sqlite:///x' });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/MLFLOW_TRACKING_URI="sqlite:\/\/\/x" is a database/);
  });
});
