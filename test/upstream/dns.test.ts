import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Address, type Found, lookupError, Names, type ResolveName } from '../../src/upstream/dns.ts';
import { ManualClock } from '../reload/support.ts';

const OLD: Found = { addresses: [{ address: '10.0.0.1', family: 4 }], ttlMs: 30_000 };
const NEW: Found = { addresses: [{ address: '10.0.0.2', family: 4 }], ttlMs: 30_000 };
const BOTH: readonly Address[] = [
  { address: '10.0.0.1', family: 4 },
  { address: 'fd00::1', family: 6 },
];

/** Answers with the next of what it is given, the last again and again; an error is thrown, null never comes. */
function scripted(...answers: readonly (Found | Error | null)[]) {
  const asked: string[] = [];
  const resolve: ResolveName = host => {
    asked.push(host);
    const answer = answers[Math.min(asked.length, answers.length) - 1] ?? null;
    if (answer === null) return new Promise(() => undefined);
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  };
  const clock = new ManualClock();
  return { names: new Names(resolve, clock), asked, clock };
}

/** As `net.connect` calls it. */
function lookup(names: Names, host: string, options: object) {
  return new Promise<unknown>((resolve, reject) => {
    names.lookup(host, options, (error, ...given) => (error ? reject(error) : resolve(given)));
  });
}

describe('nobody is asked for', () => {
  test.each([
    ['10.1.2.3', ['10.1.2.3']],
    ['fd00::7', ['fd00::7']],
    ['localhost', ['127.0.0.1', '::1']],
    ['LocalHost', ['127.0.0.1', '::1']],
    ['mlflow.localhost', ['127.0.0.1', '::1']],
  ])('%s', async (host, addresses) => {
    const { names, asked } = scripted(OLD);
    const found = await names.find(host);
    expect(found.addresses.map(({ address }) => address)).toEqual(addresses);
    expect(asked).toEqual([]);
  });
});

describe('what a connection is given', () => {
  test('is the whole list, where it asks for all', async () => {
    const { names } = scripted({ addresses: BOTH, ttlMs: 30_000 });
    expect(await lookup(names, 'mlflow', { all: true })).toEqual([BOTH]);
  });

  test.each([
    [{}, ['10.0.0.1', 4]],
    [{ family: 0 }, ['10.0.0.1', 4]],
    [{ family: 6 }, ['fd00::1', 6]],
    [{ family: 'IPv6' }, ['fd00::1', 6]],
    [{ family: 'IPv4' }, ['10.0.0.1', 4]],
    [{ family: 6, all: true }, [[{ address: 'fd00::1', family: 6 }]]],
  ])('for %j is %j', async (options, expected) => {
    const { names } = scripted({ addresses: BOTH, ttlMs: 30_000 });
    expect(await lookup(names, 'mlflow', options)).toEqual(expected);
  });

  test('is ENOTFOUND where nothing is of its family', async () => {
    const { names } = scripted(OLD);
    await expect(lookup(names, 'mlflow', { family: 6 })).rejects.toMatchObject({ code: 'ENOTFOUND' });
  });

  test('is the error of the look-up', async () => {
    const { names } = scripted(lookupError('mlflow', 'EAI_AGAIN'));
    await expect(lookup(names, 'mlflow', { all: true })).rejects.toMatchObject({ code: 'EAI_AGAIN' });
  });
});

describe('an address that was found', () => {
  test('is used until its TTL is over, whatever the case of the name', async () => {
    const { names, asked, clock } = scripted(OLD, NEW);
    await names.find('mlflow');
    clock.advance(29_999);
    expect(await names.find('MLflow')).toEqual(OLD);
    clock.advance(1);
    expect(await names.find('mlflow')).toEqual(NEW);
    expect(asked).toEqual(['mlflow', 'mlflow']);
  });

  test.each([
    [0, 5_000],
    [86_400_000, 60_000],
  ])('with a TTL of %i ms is used for %i ms', async (ttlMs, usedMs) => {
    const { names, asked, clock } = scripted({ ...OLD, ttlMs });
    await names.find('mlflow');
    clock.advance(usedMs - 1);
    await names.find('mlflow');
    expect(asked).toHaveLength(1);
    clock.advance(1);
    await names.find('mlflow');
    expect(asked).toHaveLength(2);
  });

  test.each(['EAI_AGAIN', 'ETIMEOUT'] as const)(
    'is used on for an hour while look-ups fail with %s',
    async code => {
      const { names, clock } = scripted(OLD, lookupError('mlflow', code));
      await names.find('mlflow');
      for (let minutes = 0; minutes < 60; minutes++) {
        clock.advance(60_000);
        expect(await names.find('mlflow')).toEqual(OLD);
      }
      clock.advance(60_000);
      await expect(names.find('mlflow')).rejects.toMatchObject({ code });
    },
  );

  test('is used on while a look-up hangs, and the caller waits 0.3 s at most', async () => {
    const { names, clock } = scripted(OLD, null);
    await names.find('mlflow');
    clock.advance(30_000);
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const found = names.find('mlflow');
    await vi.advanceTimersByTimeAsync(300);
    expect(await Promise.race([found, Promise.resolve('waits on')])).toEqual(OLD);
  });

  test('is not used any more once there is no such name', async () => {
    const { names, clock } = scripted(OLD, lookupError('mlflow', 'ENOTFOUND'));
    await names.find('mlflow');
    clock.advance(30_000);
    await expect(names.find('mlflow')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(names.find('mlflow')).rejects.toMatchObject({ code: 'ENOTFOUND' });
  });
});

describe('a look-up that fails', () => {
  test('is not done again for a second', async () => {
    const { names, asked, clock } = scripted(lookupError('mlflow', 'ENOTFOUND'), OLD);
    await expect(names.find('mlflow')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    clock.advance(999);
    await expect(names.find('mlflow')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(asked).toHaveLength(1);
    clock.advance(1);
    expect(await names.find('mlflow')).toEqual(OLD);
  });

  test('is not repeated for a second while an old address is used', async () => {
    const { names, asked, clock } = scripted(OLD, lookupError('mlflow', 'EAI_AGAIN'));
    await names.find('mlflow');
    clock.advance(30_000);
    await names.find('mlflow');
    await names.find('mlflow');
    expect(asked).toHaveLength(2);
  });

  test('is ETIMEOUT after 2.5 s', async () => {
    const { names } = scripted(null);
    const startedAt = performance.now();
    await expect(names.find('mlflow')).rejects.toMatchObject({ code: 'ETIMEOUT' });
    expect(performance.now() - startedAt).toBeGreaterThan(2_400);
  });
});

test('a hundred callers at once are one look-up', async () => {
  const { names, asked } = scripted(OLD);
  await Promise.all(Array.from({ length: 100 }, () => names.find('mlflow')));
  expect(asked).toEqual(['mlflow']);
});

test('names from outside do not fill the memory', async () => {
  const { names, asked } = scripted(OLD);
  for (let n = 0; n <= 1_000; n++) await names.find(`host-${n}`);
  await names.find('host-1000');
  expect(asked).toHaveLength(1_001);
  await names.find('host-0');
  expect(asked).toHaveLength(1_002);
});
