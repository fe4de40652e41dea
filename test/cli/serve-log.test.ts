import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { directory, start } from './support.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const LISTENING = /"url":"(?<url>[^"]+)"/;

function env(): Readonly<Record<string, string>> {
  return { MLFLOW_TRACKING_URI: 'http://127.0.0.1:9', SIDECAR_PORT: '0', SIDECAR_CACHE_DIR: directory() };
}

interface Unread {
  readonly child: ChildProcess;
  readonly url: string;
  readonly readRest: () => void;
  readonly text: () => string;
}

/** A sidecar whose log is read up to its address and no further. */
async function unread(): Promise<Unread> {
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    env: { PATH: process.env['PATH'] ?? '', ...env() },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  const url = await new Promise<string>(resolve => {
    child.stdout.on('data', chunk => {
      text += String(chunk);
      const found = LISTENING.exec(text)?.groups?.['url'];
      if (found !== undefined) resolve(found);
    });
  });
  child.stdout.pause();
  return { child, url, readRest: () => void child.stdout.resume(), text: () => text };
}

/** Requests that are refused, each with a line in the log. Gives how many there were. */
async function refusals(url: string, count: number, pathLength = 1): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const path = `/${'x'.repeat(pathLength)}`;
  const one = async (): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    get(`${url}${path}`, { agent, headers: { host: 'evil.example' } }, res => {
      res.resume().on('end', resolve);
    }).on('error', reject);
    await promise;
  };
  for (let left = count; left > 0; left -= 8) {
    await Promise.all(Array.from({ length: Math.min(8, left) }, one));
  }
  agent.destroy();
  return count;
}

async function expectHealthy(url: string): Promise<void> {
  const asked = performance.now();
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect(performance.now() - asked).toBeLessThan(atMost(250));
}

async function expectEnd(child: ChildProcess): Promise<void> {
  const asked = performance.now();
  const closed = once(child, 'exit');
  child.kill('SIGTERM');
  expect((await closed)[0]).toBe(0);
  expect(performance.now() - asked).toBeLessThan(atMost(5_000));
}

function parsed(text: string): { msg: string; lines_dropped?: number; event?: string }[] {
  return text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
}

describe('a log that nobody reads', () => {
  test('holds up neither an answer nor the end', async () => {
    const { child, url } = await unread();
    await refusals(url, 1_000, 2_000);
    await expectHealthy(url);
    await expectEnd(child);
  });

  test('says how many lines it dropped once it is read again, and keeps the others whole and in order', async () => {
    const { child, url, readRest, text } = await unread();
    const before = await refusals(url, 1_000, 2_000);
    readRest();
    await expect.poll(text).toContain('were dropped');
    const after = await refusals(url, 10);
    const closed = once(child.stdout ?? child, 'close');
    await expectEnd(child);
    await closed;
    const lines = parsed(text());
    const at = lines.findIndex(({ lines_dropped }) => lines_dropped !== undefined);
    const dropped = lines[at]?.lines_dropped ?? 0;
    expect(dropped).toBeGreaterThan(100);
    const isRefusal = ({ event }: { event?: string }): boolean => event === 'request_refused';
    expect(lines.slice(0, at).filter(isRefusal)).toHaveLength(before - dropped);
    expect(lines.slice(at).filter(isRefusal)).toHaveLength(after);
    expect(lines.at(-1)?.msg).toBe('Stopped.');
  });

  test('whose pipe is broken ends nothing', async () => {
    const { child, url } = await unread();
    child.stdout?.destroy();
    await refusals(url, 100);
    await expectHealthy(url);
    await expectEnd(child);
  });
});

test('of a log that is read no line is lost at the end', async () => {
  const { child, ended, stdoutWith } = start(['serve'], env());
  const url = (await stdoutWith(LISTENING)).groups?.['url'] ?? '';
  const count = await refusals(url, 2_000);
  child.kill('SIGTERM');
  const { code, stdout } = await ended;
  expect(code).toBe(0);
  const lines = parsed(stdout);
  expect(lines.filter(({ event }) => event === 'request_refused')).toHaveLength(count);
  expect(lines.at(-1)?.msg).toBe('Stopped.');
});

test('the line about a crash is written before the end', async () => {
  const preload = `data:text/javascript,process.on('SIGUSR2',()=>{throw new Error('broken')})`;
  const { child, ended, stdoutWith } = start(['serve'], { ...env(), NODE_OPTIONS: `--import="${preload}"` });
  await stdoutWith(LISTENING);
  child.kill('SIGUSR2');
  const { code, stdout } = await ended;
  expect(code).toBe(1);
  expect(parsed(stdout).at(-1)?.msg).toContain('nobody foresaw: broken');
});
