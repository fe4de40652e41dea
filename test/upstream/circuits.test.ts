import { expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import type { Breaker } from '../../src/policy/breaker.ts';
import { Circuits } from '../../src/upstream/circuits.ts';
import { ManualClock } from '../reload/support.ts';

const MLFLOW = 'http://mlflow:5000';

function circuitsOf(registryUri: string, trackingUri: string) {
  const events = new EventBus();
  const seen: SidecarEvent[] = [];
  events.subscribe(event => seen.push(event));
  const limits = { failures: 2, resetMs: 1_000 };
  const circuits = new Circuits({ registryUri, trackingUri, limits, clock: new ManualClock(), events });
  onTestFinished(() => circuits.close());
  return { circuits, seen };
}

async function open(breaker: Breaker): Promise<void> {
  for (let n = 0; n < 2; n++) {
    const error = new SidecarError('mlflow_unreachable', 'refused');
    const failing = breaker.run(new AbortController().signal, () => Promise.reject(error));
    await expect(failing).rejects.toBe(error);
  }
}

test('one server for both has a breaker for each part of its API', async () => {
  const { circuits } = circuitsOf(MLFLOW, MLFLOW);
  expect(circuits.tracking).not.toBe(circuits.registry);
  expect(circuits.artifacts(MLFLOW)).not.toBe(circuits.registry);
  await open(circuits.registry);
  expect(circuits.all().map(({ name, host, breaker }) => [name, host, breaker.state])).toEqual([
    ['registry', 'mlflow:5000', 'open'],
    ['tracking', 'mlflow:5000', 'closed'],
    ['artifacts', 'mlflow:5000', 'closed'],
  ]);
});

test('two servers have one each: that one is down says nothing about the other', async () => {
  const { circuits } = circuitsOf('http://registry:1', 'http://tracking:2/prefix');
  await open(circuits.tracking);
  expect(circuits.all().map(({ name, host, breaker }) => [name, host, breaker.state])).toEqual([
    ['registry', 'registry:1', 'closed'],
    ['tracking', 'tracking:2', 'open'],
  ]);
});

test('an opening is told with who and why', async () => {
  const { circuits, seen } = circuitsOf(MLFLOW, MLFLOW);
  await open(circuits.artifacts('http://store:9'));
  expect(seen).toEqual([
    {
      type: 'breaker_changed',
      name: 'artifacts',
      host: 'store:9',
      from: 'closed',
      to: 'open',
      reason: 'refused',
    },
  ]);
});

test('of more than 100 artifact servers those that were not asked longest are forgotten', () => {
  const { circuits } = circuitsOf(MLFLOW, MLFLOW);
  const origin = (n: number) => `http://store-${n}:80`;
  const first = circuits.artifacts(origin(0));
  for (let n = 1; n < 100; n++) circuits.artifacts(origin(n));
  expect(circuits.artifacts(origin(0))).toBe(first);
  circuits.artifacts(origin(100));
  const hosts = circuits.all().map(({ host }) => host);
  expect(hosts).toHaveLength(102);
  expect(hosts).toContain('store-0');
  expect(hosts).not.toContain('store-1');
  expect(circuits.artifacts(origin(0))).toBe(first);
});
