import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus } from '../../src/domain/events.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { answered } from '../../src/proxy/answer.ts';
import type { Opened } from '../../src/proxy/opened.ts';
import { PassedFiles } from '../../src/proxy/passed-files.ts';
import type { MlflowResponse } from '../../src/upstream/mlflow-client.ts';
import { Buffers, ResponseBody } from '../../src/upstream/response-body.ts';
import { SOON } from '../support/limits.ts';
import { ASKER, json, questionsTo } from './support.ts';

test('MLflow’s answer is left, and its connection, where it comes while something else is given', async () => {
  const clock = systemClock;
  const { kept, watch } = await questionsTo({ clock, ask: async () => json({}) });
  const mlflow = Promise.withResolvers<MlflowResponse>();
  const files = new PassedFiles({
    client: { send: () => mlflow.promise },
    trackingUri: 'http://mlflow:5000',
    breaker: () =>
      new Breaker({
        who: 'MLflow',
        limits: { failures: 5, resetMs: 1_000 },
        clock,
        onChange: () => undefined,
      }),
    ...{ watch, kept, clock, events: new EventBus() },
    floor: { bytesPerSecond: 1, windowS: 60 },
    ...{ refreshWaitMs: 20, maxStaleMs: 60_000, deadlineMs: 8_000 },
  });
  const request = { segments: ['0', 'r', 'x'], method: 'GET', headers: {} } as const;
  const instead: Opened = { kind: 'answer', answer: answered('old') };
  const abort = vi.fn<(reason: Error) => void>();
  const flow = { pause: () => undefined, resume: () => undefined, abort };
  const opened = await files.open({ ...request, signal: new AbortController().signal }, ASKER, async () => {
    mlflow.resolve({
      statusCode: 200,
      headers: { 'content-length': '9' },
      body: new ResponseBody(9, flow, new Buffers()),
      redact: text => text,
    });
    // Until that has come through the retries.
    await delay(5);
    return instead;
  });
  expect(opened).toBe(instead);
  await vi.waitFor(() => expect(abort).toHaveBeenCalledOnce(), SOON);
});
