import { expect, test } from 'vitest';
import { SharedWork } from '../../src/policy/shared-work.ts';

class Led {
  readonly left: AbortSignal;
  readonly #end = Promise.withResolvers<string>();
  readonly done = this.#end.promise;

  constructor(left: AbortSignal) {
    this.left = left;
    left.addEventListener('abort', () => this.#end.reject(left.reason));
  }

  end(value: string): void {
    this.#end.resolve(value);
  }

  fail(error: Error): void {
    this.#end.reject(error);
  }
}

function sharing() {
  const shared = new SharedWork<string, Led>();
  const begun: Led[] = [];
  const join = (key = 'a') => {
    const caller = new AbortController();
    const { work, wait } = shared.join(key, left => {
      const led = new Led(left);
      begun.push(led);
      return led;
    });
    const given = wait(caller.signal);
    given.catch(() => undefined);
    return { work, given, leave: () => caller.abort(new Error('left')) };
  };
  return { join, begun };
}

test('equal wishes are one work, and all get what it gives', async () => {
  const { join, begun } = sharing();
  const [one, two, other] = [join(), join(), join('b')];
  expect(two.work).toBe(one.work);
  expect(begun).toHaveLength(2);
  begun[0]?.end('done');
  await expect(Promise.all([one.given, two.given])).resolves.toEqual(['done', 'done']);
  begun[1]?.fail(new Error('broken'));
  await expect(other.given).rejects.toThrow('broken');
  expect(begun[0]?.left.aborted).toBe(false);
});

test('it goes on while anybody waits, and ends with the last one who leaves', async () => {
  const { join, begun } = sharing();
  const [one, two] = [join(), join()];
  one.leave();
  await expect(one.given).rejects.toThrow('left');
  expect(begun[0]?.left.aborted).toBe(false);
  two.leave();
  await expect(two.given).rejects.toThrow('left');
  expect(begun[0]?.left.aborted).toBe(true);
});

test('whoever comes once everybody has left begins anew', async () => {
  const { join, begun } = sharing();
  const one = join();
  one.leave();
  await expect(one.given).rejects.toThrow('left');
  const two = join();
  expect(begun).toHaveLength(2);
  begun[1]?.end('again');
  await expect(two.given).resolves.toBe('again');
});

test('what has ended is begun anew', async () => {
  const { join, begun } = sharing();
  const one = join();
  begun[0]?.end('first');
  await one.given;
  join();
  expect(begun).toHaveLength(2);
});
