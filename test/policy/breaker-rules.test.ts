import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ERROR_CODES, SidecarError } from '../../src/domain/errors.ts';
import {
  admits,
  at,
  begun,
  type Circuit,
  causeOf,
  type Ending,
  ended,
  halfOpened,
  INITIAL,
  isServerFault,
  refused,
} from '../../src/policy/breaker-rules.ts';

const LIMITS = { failures: 5, resetMs: 60_000 };
const NOW = 1_000;

function after(circuit: Circuit, endings: readonly Ending[]): Circuit {
  return endings.reduce((c, ending) => ended(c, c.generation, ending, LIMITS, NOW), circuit);
}

const failures = (n: number) => Array.from({ length: n }, (): Ending => 'failure');
const OPEN = after(INITIAL, failures(5));
const HALF_OPEN = at(OPEN, NOW + LIMITS.resetMs);
const ON_TRIAL = begun(HALF_OPEN);

function trialEnds(ending: Ending): Circuit {
  return ended(ON_TRIAL, ON_TRIAL.generation, ending, LIMITS, NOW);
}

test('four failures in a row leave it closed, the fifth opens it', () => {
  expect(after(INITIAL, failures(4))).toMatchObject({ state: 'closed', failures: 4 });
  expect(OPEN).toMatchObject({ state: 'open', failures: 5, until: NOW + LIMITS.resetMs });
});

test('a success between them begins the row anew, however many failures there were in all', () => {
  const rows = Array.from({ length: 20 }, (): Ending[] => [...failures(4), 'success']).flat();
  expect(after(INITIAL, rows)).toMatchObject({ state: 'closed', failures: 0 });
});

test('what is neutral neither counts nor breaks the row', () => {
  expect(after(INITIAL, [...failures(4), 'neutral'])).toMatchObject({ state: 'closed', failures: 4 });
  expect(after(INITIAL, [...failures(4), 'neutral', 'failure']).state).toBe('open');
});

test('open, it admits nothing until its time is over to the millisecond, and is half-open then', () => {
  expect(admits(at(OPEN, NOW + LIMITS.resetMs - 1), NOW)).toBe(false);
  expect(HALF_OPEN).toMatchObject({ state: 'half-open', hasTrial: false });
  expect(admits(HALF_OPEN, NOW)).toBe(true);
});

test('half-open, it admits one request and no second beside it', () => {
  expect(ON_TRIAL).toMatchObject({ state: 'half-open', hasTrial: true });
  expect(admits(ON_TRIAL, NOW)).toBe(false);
});

test('the trial’s success closes it, with nothing left of the row', () => {
  expect(trialEnds('success')).toMatchObject({ state: 'closed', failures: 0 });
});

test('the trial’s failure opens it again for the whole time', () => {
  const later = NOW + 123_456;
  expect(ended(ON_TRIAL, ON_TRIAL.generation, 'failure', LIMITS, later)).toMatchObject({
    state: 'open',
    failures: 6,
    until: later + LIMITS.resetMs,
  });
});

test('the trial’s neutral end leaves it half-open for the next request', () => {
  const next = trialEnds('neutral');
  expect(next).toMatchObject({ state: 'half-open', hasTrial: false });
  expect(admits(next, NOW)).toBe(true);
  expect(ended(begun(next), begun(next).generation, 'success', LIMITS, NOW).state).toBe('closed');
});

describe('an end that comes late is ignored', () => {
  test.each<[string, Circuit]>([
    ['open', OPEN],
    ['half-open', HALF_OPEN],
    ['on trial', ON_TRIAL],
    ['closed again', trialEnds('success')],
  ])('of a request from before the opening, while it is %s', (_, circuit) => {
    for (const ending of ['success', 'failure', 'neutral'] as const) {
      expect(ended(circuit, INITIAL.generation, ending, LIMITS, NOW)).toBe(circuit);
    }
  });

  test('of a trial that was decided, for the next trial', () => {
    const next = begun(trialEnds('neutral'));
    expect(ended(next, ON_TRIAL.generation, 'success', LIMITS, NOW)).toBe(next);
  });
});

type Step = { readonly wait: number } | 'begin' | { readonly end: Ending; readonly which: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ wait: fc.integer({ min: 0, max: 90_000 }) }),
  fc.constant('begin' as const),
  fc.record({
    end: fc.constantFrom<Ending>('success', 'failure', 'neutral'),
    which: fc.nat(20),
  }),
);

test('whatever happens: never two trials at once, and nothing but the trial’s success closes it', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), steps => {
      let circuit: Circuit = INITIAL;
      let now = 0;
      let trial: number | null = null;
      const begunIn: number[] = [];
      for (const one of steps) {
        const before = at(circuit, now);
        if (one === 'begin') {
          if (!admits(before, now)) continue;
          circuit = begun(before);
          begunIn.push(circuit.generation);
          if (before.state === 'half-open') {
            expect(trial).toBeNull();
            trial = circuit.generation;
          }
        } else if ('wait' in one) now += one.wait;
        else {
          const [generation] = begunIn.splice(one.which, 1);
          if (generation === undefined) continue;
          circuit = ended(circuit, generation, one.end, LIMITS, now);
          const isClosing = before.state !== 'closed' && circuit.state === 'closed';
          if (isClosing) expect([generation, one.end]).toEqual([trial, 'success']);
          if (before.state === 'closed' && circuit.state !== 'closed') expect(one.end).toBe('failure');
          if (generation === trial) trial = null;
        }
      }
    }),
    { numRuns: 1_000 },
  );
});

test('what speaks against a server: nobody there, too slow, an error, no artifact in time', () => {
  const against = ERROR_CODES.filter(code => isServerFault(new SidecarError(code, 'x')));
  expect(against.toSorted()).toEqual([
    'artifact_timeout',
    'mlflow_error',
    'mlflow_timeout',
    'mlflow_unreachable',
  ]);
});

test('an error that says so itself wins over its code', () => {
  expect(isServerFault(new SidecarError('mlflow_error', 'HTTP 409', { serverFault: false }))).toBe(false);
  expect(isServerFault(new SidecarError('artifact_corrupt', 'broke off', { serverFault: true }))).toBe(true);
});

describe('a failing answer is about its item', () => {
  const about = (item: string, together?: string) => ({ item, together });
  const error = new SidecarError('mlflow_error', 'HTTP 500');
  const gone = new SidecarError('mlflow_unreachable', 'refused');
  const failed = (subjects: readonly ReturnType<typeof about>[], failure = error) =>
    subjects.reduce<Circuit>(
      (c, subject) => ended(c, c.generation, 'failure', LIMITS, NOW, causeOf(failure, subject)),
      INITIAL,
    );

  test('one item counts once in a row, however often it is asked for', () => {
    expect(failed(Array.from({ length: 300 }, () => about('poisoned')))).toMatchObject({
      state: 'closed',
      failures: 1,
    });
  });

  test('five of them open it', () => {
    expect(failed(['a', 'b', 'a', 'c', 'b', 'd'].map(item => about(item)))).toMatchObject({
      state: 'closed',
      failures: 4,
    });
    expect(failed(['a', 'b', 'c', 'd', 'e'].map(item => about(item)))).toMatchObject({ state: 'open' });
  });

  test('a server that is not there counts each time, and once for what was asked together', () => {
    expect(
      failed(
        Array.from({ length: 5 }, () => about('a')),
        gone,
      ).state,
    ).toBe('open');
    expect(
      failed(
        Array.from({ length: 64 }, () => about('a', 'download 1')),
        gone,
      ).failures,
    ).toBe(1);
    const tries = ['download 1', 'download 2', 'other 1'].flatMap(name => [
      about('a', name),
      about('a', name),
    ]);
    expect(failed(tries, gone).failures).toBe(3);
  });

  const opened = failed(['a', 'b', 'c', 'd', 'e'].map(item => about(item)));
  const half = halfOpened(refused(opened, 'healthy'), NOW);

  test('where nobody asks for anything else, what failed is tried again at once, and opens it as anything would', () => {
    const alone = halfOpened(refused(opened, 'a'), NOW);
    expect(admits(alone, NOW, 'a')).toBe(true);
    const trial = begun(alone);
    expect(ended(trial, trial.generation, 'failure', LIMITS, NOW, causeOf(error, about('a')))).toMatchObject({
      state: 'open',
      failures: 6,
    });
  });

  test('an item that failed gives others precedence for 5 s', () => {
    expect(admits(half, NOW, 'a')).toBe(false);
    expect(admits(half, NOW, 'healthy')).toBe(true);
    expect(admits(half, NOW + 4_999, 'a')).toBe(false);
    expect(admits(half, NOW + 5_000, 'a')).toBe(true);
  });

  test('a trial of an item that had failed before decides nothing, and the next one is for others', () => {
    const trial = begun(half);
    const later = NOW + 6_000;
    const next = ended(trial, trial.generation, 'failure', LIMITS, later, causeOf(error, about('a')));
    expect(next).toMatchObject({ state: 'half-open', hasTrial: false, failures: 5 });
    expect(admits(next, later, 'a')).toBe(false);
    expect(admits(next, later, 'healthy')).toBe(true);
    const unknown = ended(trial, trial.generation, 'failure', LIMITS, later, causeOf(error, about('new')));
    expect(unknown).toMatchObject({ state: 'open', failures: 6 });
    const without = ended(trial, trial.generation, 'failure', LIMITS, later, causeOf(gone, about('a')));
    expect(without).toMatchObject({ state: 'open', failures: 6 });
  });

  test('what is remembered of a row is bounded', () => {
    let circuit: Circuit = half;
    for (let n = 0; n < 1_000; n++) {
      const trial = begun(halfOpened(circuit, NOW));
      circuit = ended(trial, trial.generation, 'failure', LIMITS, NOW, causeOf(error, about(`item ${n}`)));
    }
    expect(circuit.causes.length).toBeLessThanOrEqual(100);
  });

  test('only an open circuit is half-opened early', () => {
    expect(halfOpened(INITIAL, NOW)).toBe(INITIAL);
    expect(halfOpened(ON_TRIAL, NOW)).toBe(ON_TRIAL);
    expect(half).toMatchObject({ state: 'half-open', hasTrial: false });
  });
});
