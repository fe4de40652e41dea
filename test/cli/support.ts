import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

type Env = Readonly<Record<string, string>>;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it has written to standard output, as soon as that matches. */
  readonly stdoutWith: (pattern: RegExp) => Promise<RegExpExecArray>;
}

/** Starts the command with this environment and nothing else of ours. It ends with the test at the latest. */
export function start(args: readonly string[], env: Env = {}): Running {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [stdout, stderr] = [readText(child.stdout), readText(child.stderr)];
  const ended = (async () => {
    const [code]: (number | null)[] = await once(child, 'close');
    return { code: code ?? null, stdout: await stdout, stderr: await stderr };
  })();
  return { child, ended, stdoutWith: pattern => matched(child, ended, pattern) };
}

async function matched(
  child: ChildProcess,
  ended: Promise<Ended>,
  pattern: RegExp,
): Promise<RegExpExecArray> {
  let text = '';
  const found = new Promise<RegExpExecArray>(resolve => {
    child.stdout?.on('data', chunk => {
      text += String(chunk);
      const match = pattern.exec(text);
      if (match !== null) resolve(match);
    });
  });
  const early = ended.then(({ stderr }) => {
    throw new Error(`It ended without ${String(pattern)}:\n${text}${stderr}`);
  });
  return Promise.race([found, early]);
}

export function run(args: readonly string[], env: Env = {}): Promise<Ended> {
  return start(args, env).ended;
}

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

interface Reply {
  readonly status?: number;
  readonly type?: string;
  readonly body: string;
}

/** A server on a free port of loopback that answers by `reply` (null: never) and keeps what it was asked. */
export async function server(reply: (seen: Seen) => Reply | null): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const request = {
      method: req.method ?? '',
      url: req.url ?? '',
      headers: req.headers,
      body: await readText(req),
    };
    seen.push(request);
    const given = reply(request);
    if (given === null) return;
    res.writeHead(given.status ?? 200, { 'content-type': given.type ?? 'text/plain; charset=utf-8' });
    res.end(given.body);
  };
  const http = createServer((req, res) => void answer(req, res)).listen(0, '127.0.0.1');
  await once(http, 'listening');
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  const address = http.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}`, seen };
}

/** A directory that lives as long as the test. */
export function directory(base = tmpdir()): string {
  const dir = mkdtempSync(join(base, 'sidecar-cli-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
