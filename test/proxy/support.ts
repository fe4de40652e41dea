import { onTestFinished } from 'vitest';
import type { Clock } from '../../src/domain/clock.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { EventBus } from '../../src/domain/events.ts';
import type { Asker } from '../../src/proxy/asker.ts';
import { Interests } from '../../src/proxy/interests.ts';
import { KeptAnswers } from '../../src/proxy/kept-answers.ts';
import { Lookback } from '../../src/proxy/lookback.ts';
import { OldAnswers } from '../../src/proxy/old-answers.ts';
import { Questions } from '../../src/proxy/questions.ts';
import { findRead, type Read, readOf } from '../../src/proxy/reads.ts';
import type { Question, RegistryCall } from '../../src/registry/client.ts';
import { RegistryWatch } from '../../src/reload/registry-watch.ts';
import { Cache } from '../../src/store/cache.ts';
import type { JsonAnswer } from '../../src/upstream/json.ts';
import { OWN, temporaryDirectory } from '../store/support.ts';

export const ASKER: Asker = { caller: { requestId: 'r', airflow: {}, authorization: null }, scope: OWN };

/** A read as a client sends it. */
export function read(path: string, fields: Readonly<Record<string, unknown>> = {}, method = 'GET'): Read {
  const found = findRead(method, path === 'server-info' ? '3.0/mlflow' : '2.0/mlflow', path.split('/'));
  if (found === null) throw new Error(`${path} is no read`);
  const query = new URLSearchParams();
  if (method === 'GET') for (const [key, value] of Object.entries(fields)) query.set(key, String(value));
  return readOf(found, query, method === 'POST' ? fields : null);
}

/** MLflow's JSON with this body. */
export function json(body: unknown, status = 200): JsonAnswer {
  return { status, body, text: JSON.stringify(body), message: null };
}

export function refused(): SidecarError {
  return new SidecarError('mlflow_unreachable', 'MLflow at http://mlflow:5000: connection refused.');
}

/** On a cache directory of its own, closed at the test's end. */
export async function openCache(clock: Clock, dir?: string): Promise<Cache> {
  const cache = new Cache({
    dir: dir ?? (await temporaryDirectory()),
    own: OWN,
    clock,
    events: new EventBus(),
  });
  await cache.open();
  onTestFinished(async () => void (await cache.close()));
  return cache;
}

type Ask = (question: Question, call: RegistryCall) => Promise<JsonAnswer>;

export interface Stand {
  readonly questions: Questions;
  readonly kept: KeptAnswers;
  readonly interests: Interests;
  readonly lookback: Lookback;
  readonly watch: RegistryWatch;
  readonly cache: Cache;
  /** What MLflow was asked. */
  readonly asked: readonly Question[];
}

export interface StandOptions {
  readonly clock: Clock;
  readonly ask: Ask;
  readonly refreshWaitMs?: number;
  readonly freshMs?: number;
  readonly maxStaleMs?: number;
  readonly cache?: Cache;
}

/** Questions to an MLflow that a test plays. */
export async function questionsTo({
  clock,
  ask,
  refreshWaitMs = 50,
  freshMs = 0,
  maxStaleMs = 3_600_000,
  cache,
}: StandOptions): Promise<Stand> {
  const asked: Question[] = [];
  const on = cache ?? (await openCache(clock));
  const asks = {
    ask: async (question: Question, call: RegistryCall) => {
      asked.push(question);
      call.onTry?.(1);
      return await ask(question, call);
    },
  };
  const uri = 'http://mlflow:5000';
  const watch = new RegistryWatch({ uri, registry_uri: uri }, refreshWaitMs, clock);
  const kept = new KeptAnswers(on, clock);
  const interests = new Interests();
  const lookback = new Lookback(maxStaleMs, clock);
  const old = new OldAnswers(kept, maxStaleMs, clock);
  const server = { asks, uri, watch, limitMs: 8_000 };
  const questions = new Questions({
    servers: { registry: server, tracking: server, artifacts: server },
    ...{ cache: on, kept, old, lookback, interests, refreshWaitMs, freshMs, clock },
    floor: { bytesPerSecond: 1, windowS: 30 },
    stop: new AbortController().signal,
  });
  return { questions, kept, interests, lookback, watch, cache: on, asked };
}
