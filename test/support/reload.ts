import { setTimeout as delay } from 'node:timers/promises';
import { type Outcome, OutcomeSchema } from '../../src/domain/outcome.ts';

/** Longer than any deadline that a sidecar grants by default. */
const LIMIT_MS = 90_000;

export interface Reply {
  readonly status: number;
  readonly outcome: Outcome;
  /** Milliseconds until the whole answer was there. */
  readonly ms: number;
}

/** `POST /v1/reload` of one URI, answered as JSON. `fields` are further fields of the body. */
export async function reload(sidecarUrl: string, modelUri: string, fields: object = {}): Promise<Reply> {
  const { status, text, ms } = await post(sidecarUrl, modelUri, fields, 'application/json');
  return { status, outcome: OutcomeSchema.parse(JSON.parse(text)), ms };
}

/** The same as people read it. */
export function reloadReport(sidecarUrl: string, modelUri: string) {
  return post(sidecarUrl, modelUri, {}, 'text/plain');
}

/** Reloads every half second until the outcome has this status; gives how long that took, or null at the limit. */
export async function reloadUntil(
  sidecarUrl: string,
  modelUri: string,
  status: Outcome['status'],
  limitMs: number,
) {
  const startedAt = performance.now();
  while (performance.now() - startedAt < limitMs) {
    const { outcome } = await reload(sidecarUrl, modelUri);
    if (outcome.status === status) return performance.now() - startedAt;
    await delay(500);
  }
  return null;
}

async function post(sidecarUrl: string, modelUri: string, fields: object, accept: string) {
  const startedAt = performance.now();
  const response = await fetch(`${sidecarUrl}/v1/reload`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify({ model_uri: modelUri, ...fields }),
    signal: AbortSignal.timeout(LIMIT_MS),
  });
  const text = await response.text();
  return { status: response.status, text, ms: performance.now() - startedAt };
}
