import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, onTestFinished } from 'vitest';
import { z } from 'zod';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { formatModelUri, parseModelUri, refKey } from '../../src/domain/model-uri.ts';
import type { Outcome } from '../../src/domain/outcome.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { createHttpApp } from '../../src/http/app.ts';
import type { HttpDeps, HttpSettings } from '../../src/http/deps.ts';
import { createHttpServer } from '../../src/http/server.ts';
import { KeptJobs } from '../../src/jobs/jobs.ts';
import { JobRecords } from '../../src/jobs/records.ts';
import type { BreakerSummary, Catalog, ModelSummary, Reloader, ReloadRequest } from '../../src/reload/api.ts';
import { Cache } from '../../src/store/cache.ts';
import { outcome } from '../support/outcome.ts';

export const SETTINGS: HttpSettings = {
  token: null,
  allowedHosts: [],
  allow: [],
  models: [],
  reloadDeadlineS: 60,
  reloadDeadlineMaxS: 600,
  refreshWaitS: 2,
  maxStaleS: 604_800,
  proxy: 'off',
  upstreams: { registry: 'http://mlflow:5000', tracking: 'http://mlflow:5000' },
};

/** An outcome that gives no model. */
export function failure(
  status: 'failed' | 'missing',
  code: NonNullable<Outcome['warning']>['code'],
  message = 'it broke',
  overrides: Partial<Outcome> = {},
): Outcome {
  const warning = { code, message, hint: 'The model will be lazy-loaded on first prediction.' };
  const nothing = {
    version: null,
    stage: null,
    run_id: null,
    created: null,
    path: null,
    files: null,
    bytes: null,
  };
  return outcome({ status, ...nothing, changed: false, source: null, age_s: null, warning, ...overrides });
}

export const BREAKER: BreakerSummary = {
  name: 'registry',
  host: 'mlflow:5000',
  state: 'open',
  failures: 5,
  retry_in_s: 42.5,
  last_failure: 'MLflow at http://mlflow:5000: connection refused.',
};

const MODEL: ModelSummary = {
  name: 'topic-classification',
  refs: [
    {
      model_uri: 'models:/topic-classification/Production',
      ref: 'Production',
      version: '2',
      resolved_version: '2',
      path: '/cache/v1/snapshots/s1',
      ref_path: '/cache/v1/models/topic-classification/Production',
      digest: 'sha256:00',
      files: 7,
      bytes: 48_318,
      confirmed_at: 1_731_358_600,
      age_s: 5,
      last_outcome: { status: 'loaded', at: 1_731_358_600, warning: null },
    },
  ],
};

export const CATALOG: Catalog = {
  models: () => [MODEL],
  model: (_, name) => (name === MODEL.name ? MODEL : null),
  registry: () => ({
    uri: 'http://mlflow:5000',
    registry_uri: 'http://mlflow:5000',
    last_success_at: 1_731_358_600,
    last_failure_at: null,
    last_error: null,
    slow: false,
    health: { ok: true, at: 1_731_358_590, latency_ms: 4, error: null },
  }),
  breakers: () => [BREAKER],
  cache: () => ({
    dir: '/cache',
    usable: true,
    problem: null,
    models: 1,
    bytes: 48_318,
    max_bytes: 21_474_836_480,
    used_bytes: 96_636,
    free_bytes: 1_000_000_000,
    scrub: null,
  }),
};

const METRICS: HttpDeps['metrics'] = async () => ({
  contentType: 'text/plain; version=0.0.4; charset=utf-8',
  text: 'up 1\n',
});

interface Scripted extends Partial<Omit<HttpDeps, 'settings'>> {
  readonly settings?: Partial<HttpSettings>;
  readonly reload?: (request: ReloadRequest) => Outcome | Promise<Outcome>;
}

export interface Sidecar {
  readonly url: string;
  readonly port: number;
  /** What the reloader was asked. */
  readonly requests: readonly ReloadRequest[];
  readonly events: readonly SidecarEvent[];
  readonly server: ReturnType<typeof createHttpServer>;
}

const cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-http-'));
const cache = new Cache({
  dir: cacheDir,
  own: scopeOf('', null, null),
  clock: systemClock,
  events: new EventBus(),
});
await cache.open();
afterAll(async () => {
  await cache.close();
  await rm(cacheDir, { recursive: true, force: true });
});

function jobsOf(on: Cache, reloader: Reloader, events: EventBus): KeptJobs {
  return new KeptJobs({
    records: new JobRecords(on, events),
    reloader,
    scope: 'own',
    clock: systemClock,
    events,
  });
}

/** On a cache directory that does not open. */
export function closedJobs(): KeptJobs {
  const unused = { reload: () => Promise.reject(new Error('unused')), refuse: () => outcome() };
  const closed = new Cache({
    dir: '/nowhere',
    own: scopeOf('', null, null),
    clock: systemClock,
    events: new EventBus(),
  });
  return jobsOf(closed, unused, new EventBus());
}

const unasked = () => Promise.reject(new Error('unused'));
const NO_PROXY: HttpDeps['proxy'] = {
  read: unasked,
  list: unasked,
  open: unasked,
  plain: unasked,
  relay: unasked,
};

/** What an app needs, over a reloader that answers as told, by default that everything was loaded. */
export function depsOf({ settings, reload, ...deps }: Scripted = {}) {
  const requests: ReloadRequest[] = [];
  const events: SidecarEvent[] = [];
  const bus = new EventBus();
  bus.subscribe(event => events.push(event));
  const reloader: Reloader = {
    reload: async request => {
      requests.push(request);
      return reload ? reload(request) : outcome(namedBy(request));
    },
    refuse: (request, { code, message }) => failure('failed', code, message, namedBy(request)),
  };
  const all: HttpDeps = {
    reloader,
    jobs: jobsOf(cache, reloader, bus),
    proxy: NO_PROXY,
    catalog: CATALOG,
    clock: systemClock,
    events: bus,
    settings: { ...SETTINGS, ...settings },
    isReady: () => ({ ready: true, problem: null }),
    prewarm: () => [],
    version: '1.2.3',
    metrics: METRICS,
    ...deps,
  };
  return { deps: all, requests, events };
}

/** A listening server over them. */
export async function sidecar(scripted: Scripted = {}): Promise<Sidecar> {
  const { deps, requests, events } = depsOf(scripted);
  const server = createHttpServer(createHttpApp(deps), deps.events, deps.settings);
  const port = await listening(server);
  return { url: `http://127.0.0.1:${port}`, port, requests, events, server };
}

/** Listens on a free port until the test is over. */
export async function listening(server: Sidecar['server']): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return z.object({ port: z.number() }).parse(server.address()).port;
}

export function namedBy({ uri, caller }: ReloadRequest): Partial<Outcome> {
  return {
    model_uri: formatModelUri(uri),
    name: refKey(uri).name,
    request_id: caller.requestId,
    job_id: caller.jobId ?? null,
  };
}

export const uris = (...texts: string[]) => texts.map(parseModelUri);

const ProblemShape = z.looseObject({
  code: z.string(),
  title: z.string(),
  detail: z.string(),
  hint: z.string().nullable(),
  status: z.union([z.number(), z.string()]),
  faults: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
});

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export async function call(url: string, init: RequestInit = {}): Promise<Reply> {
  const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(60_000), ...init });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

export function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  const init = { method: 'POST', headers: { 'content-type': 'application/json', ...headers } };
  return call(url, { ...init, body: typeof body === 'string' ? body : JSON.stringify(body) });
}

export function form(url: string, body: string): Promise<Reply> {
  return post(url, body, { 'content-type': 'application/x-www-form-urlencoded' });
}

export function problem(reply: Pick<Reply, 'text'>) {
  return ProblemShape.parse(JSON.parse(reply.text));
}

/** The names of the fields that a 400 found fault with. */
export function faulty(reply: Reply): string[] {
  return (problem(reply).faults ?? []).map(fault => fault.field).sort();
}

export function members(reply: Pick<Reply, 'text'>): Record<string, unknown> {
  return z.record(z.string(), z.unknown()).parse(JSON.parse(reply.text));
}

/** Sends these very bytes and reads until the server closes. */
export async function sendBytes(port: number, bytes: string | Buffer): Promise<Reply> {
  const socket = connect(port, '127.0.0.1');
  socket.write(bytes);
  return replyOf(await readAll(socket));
}

/** What comes until the other end closes. */
export async function readAll(socket: Socket): Promise<string> {
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')));
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(z.instanceof(Buffer).parse(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** The first answer in the bytes of a connection. */
export function replyOf(bytes: string): Reply {
  const [head = '', ...rest] = bytes.split('\r\n\r\n');
  const [statusLine = '', ...lines] = head.split('\r\n');
  const headers = new Headers(
    lines.map((line): [string, string] => {
      const at = line.indexOf(':');
      return [line.slice(0, at), line.slice(at + 1).trim()];
    }),
  );
  return { status: Number(statusLine.split(' ')[1]), headers, text: rest.join('\r\n\r\n') };
}

/** A request with this target and these header lines, as bytes; the connection closes after it. */
export function bytesOf(
  method: string,
  target: string,
  headers: readonly string[] = ['Host: localhost'],
  body = '',
): string {
  const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  return [`${method} ${target} HTTP/1.1`, ...headers, ...length, 'Connection: close', '', body].join('\r\n');
}
