import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HTTP_STATUS_BY_CODE } from '../../src/domain/errors.ts';
import { type Outcome, OutcomeSchema } from '../../src/domain/outcome.ts';
import { atMost } from '../support/limits.ts';
import type { Files } from '../support/scripted-mlflow.ts';

/** What an answer may come later than its deadline, in milliseconds: the promise itself. */
export const GRACE_MS = 250;

const CODES = z.enum(Object.keys(HTTP_STATUS_BY_CODE));
/** An error carries the outcome's fields as members of the problem. */
const Problem = z.looseObject({ status: z.string(), code: CODES });

export interface Reloaded {
  readonly http: number;
  readonly headers: Headers;
  /** Milliseconds from the call to the whole answer. */
  readonly ms: number;
  readonly outcome: Outcome;
}

export interface ReloadCall {
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** One reload of one URI, answered with an outcome and status 200. */
export async function reload(
  url: string,
  modelUri: string,
  fields: Readonly<Record<string, unknown>> = {},
  more: Omit<ReloadCall, 'body'> = {},
): Promise<Reloaded> {
  const answer = await post(url, { body: { model_uri: modelUri, ...fields }, ...more });
  if (answer.http !== 200) throw new Error(`HTTP ${answer.http}: ${answer.text}`);
  return { ...answer, outcome: OutcomeSchema.parse(JSON.parse(answer.text)) };
}

/** One reload of one URI that is answered with an HTTP error. */
export async function refusedReload(url: string, call: ReloadCall) {
  const answer = await post(url, call);
  return { ...answer, problem: Problem.parse(JSON.parse(answer.text)) };
}

/** One reload, whatever it is answered. */
export async function post(url: string, call: ReloadCall) {
  const started = performance.now();
  const response = await fetch(`${url}/v1/reload`, {
    method: 'POST',
    // Not kept alive: what a sidecar has open afterwards is its own.
    headers: { 'content-type': 'application/json', connection: 'close', ...call.headers },
    body: JSON.stringify(call.body),
    signal: call.signal ?? null,
  });
  const text = await response.text();
  return { http: response.status, headers: response.headers, ms: performance.now() - started, text };
}

/** A small model whose files all say which one it is. */
export function modelFiles(label: string): Files {
  return {
    MLmodel: `flavors: {}\nlabel: ${label}\n`,
    'model.pkl': `${label} `.repeat(2_000),
    'data/weights.bin': Buffer.alloc(300_000, `${label}-weights`),
  };
}

/** Which of `files` a snapshot does not hold with exactly these bytes. */
export async function wrongFiles(path: string | null, files: Files): Promise<readonly string[]> {
  const wrong = await Promise.all(
    Object.entries(files).map(async ([name, content]) => {
      const found = await readFile(join(path ?? '/nowhere', name)).catch(() => null);
      return found?.equals(Buffer.from(content)) === true ? [] : [name];
    }),
  );
  return wrong.flat();
}

/** Repeats `look` every 100 ms until it gives something. */
export async function until<T>(limitMs: number, look: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + atMost(limitMs);
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > end) throw new Error(`It did not come about within ${limitMs} ms.`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}
