import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { type RetryPlan, retry } from '../../src/policy/retry.ts';

const PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: 5_000, budgetMs: 30_000 };

interface Failure {
  readonly attempt: number;
  readonly code: string;
  readonly retryInMs: number | null;
}

function hooks(failures: Failure[] = []) {
  return {
    isTransient: (error: SidecarError) => error.code === 'mlflow_error' || error.code === 'mlflow_timeout',
    timeoutError: (ms: number) => new SidecarError('mlflow_timeout', `not within ${ms} ms`),
    onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) =>
      failures.push({ attempt, code: error.code, retryInMs }),
  };
}

function failing(
  code: SidecarError['code'],
  details = {},
): (s: AbortSignal, attempt: number) => Promise<never> {
  return (_, attempt) => Promise.reject(new SidecarError(code, `try ${attempt} failed`, details));
}

/** Heeds its signal and does nothing else. */
function silent(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

const forever = new AbortController().signal;

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

/** What becomes of it when all the time that it asks for goes by. */
async function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  const [result] = await Promise.all([Promise.allSettled([promise]), vi.runAllTimersAsync()]);
  return result[0];
}

test('what succeeds at once is tried once and waits for nothing', async () => {
  const work = vi.fn(async () => 'value');
  await expect(retry(PLAN, hooks(), forever, work)).resolves.toBe('value');
  expect(work).toHaveBeenCalledTimes(1);
});

describe('with a breaker', () => {
  const made = (failures: number) => {
    const breaker = new Breaker({
      who: 'MLflow',
      limits: { failures, resetMs: 60_000 },
      clock: systemClock,
      onChange: () => undefined,
    });
    onTestFinished(() => breaker.dispose());
    return breaker;
  };

  test('each try is counted, and none is made that it would refuse', async () => {
    const failures: Failure[] = [];
    const work = vi.fn(failing('mlflow_error'));
    const breaker = made(2);
    const result = await settled(retry(PLAN, { ...hooks(failures), breaker }, forever, work));
    expect(result).toMatchObject({ status: 'rejected', reason: { message: 'try 2 failed' } });
    expect(work).toHaveBeenCalledTimes(2);
    expect(failures.map(({ retryInMs }) => retryInMs === null)).toEqual([false, true]);
    expect(breaker.state).toBe('open');
    breaker.dispose();
  });

  test('one that opens while the next try is waited for ends the wait at once, with the last failure', async () => {
    const breaker = made(3);
    const waiting = retry(PLAN, { ...hooks(), breaker }, forever, failing('mlflow_error'));
    waiting.catch(() => undefined);
    await vi.advanceTimersByTimeAsync(100);
    for (let n = 0; n < 2; n++)
      await breaker
        .run(forever, () => Promise.reject(new SidecarError('mlflow_timeout', 'x')))
        .catch(() => undefined);
    await expect(waiting).rejects.toThrow('try 1 failed');
    breaker.dispose();
  });

  test('a first try that it refuses is told as refused, and as no failed try', async () => {
    const breaker = made(1);
    await breaker
      .run(forever, () => Promise.reject(new SidecarError('mlflow_timeout', 'x')))
      .catch(() => undefined);
    const failures: Failure[] = [];
    const work = vi.fn(async () => 'value');
    await expect(retry(PLAN, { ...hooks(failures), breaker }, forever, work)).rejects.toMatchObject({
      code: 'circuit_open',
    });
    expect(work).not.toHaveBeenCalled();
    expect(failures).toEqual([]);
    breaker.dispose();
  });

  test('a try that ran out of its time is a failure, one that its caller ended is none', async () => {
    const breaker = made(5);
    const plan = { ...PLAN, attempts: 1 };
    await settled(retry(plan, { ...hooks(), breaker }, forever, silent));
    expect(breaker.failures).toBe(1);
    const caller = new AbortController();
    const left = retry(plan, { ...hooks(), breaker }, caller.signal, silent);
    caller.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    expect(breaker.failures).toBe(1);
  });
});

test('three tries and no fourth, told with the last error', async () => {
  const failures: Failure[] = [];
  const work = vi.fn(failing('mlflow_error'));
  const result = await settled(retry(PLAN, hooks(failures), forever, work));
  expect(work.mock.calls.map(([, attempt]) => attempt)).toEqual([1, 2, 3]);
  expect(result).toMatchObject({
    status: 'rejected',
    reason: { code: 'mlflow_error', message: 'try 3 failed' },
  });
  expect(failures.map(failure => failure.retryInMs === null)).toEqual([false, false, true]);
});

test('what fails for good is not tried again', async () => {
  const failures: Failure[] = [];
  const work = vi.fn(failing('model_not_found'));
  const result = await settled(retry(PLAN, hooks(failures), forever, work));
  expect(result).toMatchObject({ status: 'rejected', reason: { code: 'model_not_found' } });
  expect(failures).toEqual([{ attempt: 1, code: 'model_not_found', retryInMs: null }]);
});

test('an error that nobody foresaw is internal and not tried again', async () => {
  const work = vi.fn(() => Promise.reject(new TypeError('oh')));
  const result = await settled(retry(PLAN, hooks(), forever, work));
  expect(result).toMatchObject({ status: 'rejected', reason: { code: 'internal', message: 'oh' } });
  expect(work).toHaveBeenCalledTimes(1);
});

test('a second try that succeeds gives its value', async () => {
  const work = vi.fn(failing('mlflow_error')).mockImplementationOnce(failing('mlflow_error'));
  const result = await settled(
    retry(PLAN, hooks(), forever, (signal, attempt) =>
      attempt === 1 ? work(signal, attempt) : Promise.resolve(`try ${attempt}`),
    ),
  );
  expect(result).toEqual({ status: 'fulfilled', value: 'try 2' });
});

test('each try has its own timeout, and the try after it a fresh one', async () => {
  const startedAt = Date.now();
  const failures: Failure[] = [];
  const result = await settled(retry(PLAN, hooks(failures), forever, silent));
  expect(result).toMatchObject({ status: 'rejected', reason: { code: 'mlflow_timeout' } });
  expect(failures).toHaveLength(3);
  const waits = failures.reduce((sum, failure) => sum + (failure.retryInMs ?? 0), 0);
  expect(Date.now() - startedAt).toBeCloseTo(15_000 + waits, -2);
});

test('the budget ends all tries, and the last error that there was is told', async () => {
  const startedAt = Date.now();
  const plan = { ...PLAN, attempts: 1_000, budgetMs: 12_000 };
  const result = await settled(retry(plan, hooks(), forever, failing('mlflow_error')));
  expect(result).toMatchObject({ status: 'rejected', reason: { code: 'mlflow_error' } });
  expect(Date.now() - startedAt).toBe(12_000);
});

test('a budget shorter than the first try is a timeout of the budget', async () => {
  const result = await settled(retry({ ...PLAN, budgetMs: 100 }, hooks(), forever, silent));
  expect(result).toMatchObject({ status: 'rejected', reason: { message: 'not within 100 ms' } });
});

test('Retry-After is waited for, up to 10 s', async () => {
  const failures: Failure[] = [];
  await settled(retry(PLAN, hooks(failures), forever, failing('mlflow_error', { retryAfterS: 60 })));
  expect(failures.map(failure => failure.retryInMs)).toEqual([10_000, 10_000, null]);
});

describe('an abort', () => {
  test('before the start lets nothing start', async () => {
    const work = vi.fn(async () => 'value');
    const reason = new Error('gone');
    await expect(retry(PLAN, hooks(), AbortSignal.abort(reason), work)).rejects.toBe(reason);
    expect(work).not.toHaveBeenCalled();
  });

  test('during a try ends it at once with the reason', async () => {
    const controller = new AbortController();
    const done = retry(PLAN, hooks(), controller.signal, silent);
    controller.abort(new Error('gone'));
    await expect(done).rejects.toThrow('gone');
  });

  test('during a wait wakes it at once', async () => {
    const controller = new AbortController();
    const startedAt = Date.now();
    const done = retry(PLAN, hooks(), controller.signal, failing('mlflow_error'));
    const rejected = expect(done).rejects.toThrow('gone');
    await vi.advanceTimersByTimeAsync(500);
    controller.abort(new Error('gone'));
    await rejected;
    expect(Date.now() - startedAt).toBe(500);
  });
});
