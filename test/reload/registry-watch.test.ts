import { expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { RegistryWatch } from '../../src/reload/registry-watch.ts';
import { ManualClock } from './support.ts';

const URIS = { uri: 'http://mlflow:5000', registry_uri: 'http://registry:5000' };
const SLOW = new SidecarError('mlflow_timeout', 'MLflow did not say within 2 s');

function watching() {
  const clock = new ManualClock();
  return { clock, watch: new RegistryWatch(URIS, 2_000, clock) };
}

test('a registry of which nothing is known is not slow', () => {
  const { watch } = watching();
  expect(watch.slowReason()).toBeNull();
  expect(watch.health()).toEqual({
    ...URIS,
    last_success_at: null,
    last_failure_at: null,
    last_error: null,
    slow: false,
  });
});

test('one that missed its wait is slow for 10 s, for the reason that it missed it', () => {
  const { clock, watch } = watching();
  watch.missedWait(SLOW);
  expect(watch.slowReason()).toBe(SLOW);
  clock.advance(9_999);
  expect(watch.slowReason()).toBe(SLOW);
  expect(watch.health().slow).toBe(true);
  clock.advance(1);
  expect(watch.slowReason()).toBeNull();
  expect(watch.health().slow).toBe(false);
});

test('one that misses its wait again is slow for 10 s from then', () => {
  const { clock, watch } = watching();
  watch.missedWait(SLOW);
  clock.advance(8_000);
  watch.missedWait(SLOW);
  clock.advance(8_000);
  expect(watch.slowReason()).toBe(SLOW);
});

test('a quick answer shows that it is slow no more', () => {
  const { watch } = watching();
  watch.missedWait(SLOW);
  watch.answered(1_999);
  expect(watch.slowReason()).toBeNull();
});

test('an answer that took as long as the wait does not', () => {
  const { watch } = watching();
  watch.missedWait(SLOW);
  watch.answered(2_000);
  expect(watch.slowReason()).toBe(SLOW);
});

test('a clock that is set back does not make it slow for longer', () => {
  const { clock, watch } = watching();
  watch.missedWait(SLOW);
  clock.advance(10_000);
  expect(watch.slowReason()).toBeNull();
});

test('the last success and the last failure are told in seconds, with words', () => {
  const { clock, watch } = watching();
  watch.answered(5);
  clock.advance(1_500);
  watch.failed(new SidecarError('mlflow_unreachable', 'connection refused'));
  expect(watch.health()).toMatchObject({
    last_success_at: 1_700_000_000,
    last_failure_at: 1_700_000_001.5,
    last_error: 'connection refused',
  });
});

test('a failure alone does not make it slow', () => {
  const { watch } = watching();
  watch.failed(SLOW);
  expect(watch.slowReason()).toBeNull();
});

test('what is behind a slow server is slow with it, and not the reverse', () => {
  const clock = new ManualClock();
  const uris = URIS;
  const front = new RegistryWatch(uris, 2_000, clock);
  const behind = new RegistryWatch(uris, 2_000, clock, front);
  const reason = new SidecarError('mlflow_timeout', 'slow');
  behind.missedWait(reason);
  expect([front.slowReason(), behind.slowReason()]).toEqual([null, reason]);
  behind.answered(10);
  front.missedWait(reason);
  expect(behind.slowReason()).toBe(reason);
  front.answered(10);
  expect(behind.slowReason()).toBeNull();
});
