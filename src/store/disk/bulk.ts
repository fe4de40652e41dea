import pLimit from 'p-limit';
import { mapBounded } from '../../policy/bounded.ts';

/**
 * Over all runs, since all share libuv's threads: of those that the cache's disk may hold when it hangs, the others are for
 * looks, saves and files on their way in.
 */
const AT_ONCE = 12;
/** Of one piece of work, so that a small one is not behind all of a large one. */
const AT_ONCE_OF_ONE = 8;

const everyone = pLimit(AT_ONCE);

/** Work on the disk for many files. All of it has ended when this does, so that nobody writes into what is removed. */
export async function settleEach<T, R>(
  items: readonly T[],
  work: (item: T, at: number) => Promise<R>,
): Promise<readonly PromiseSettledResult<R>[]> {
  return await mapBounded(items, AT_ONCE_OF_ONE, async (item, at): Promise<PromiseSettledResult<R>> => {
    try {
      return { status: 'fulfilled', value: await everyone(() => work(item, at)) };
    } catch (reason) {
      return { status: 'rejected', reason };
    }
  });
}

/** @throws the first failure, after all of them have ended */
export async function forEach<T, R>(
  items: readonly T[],
  work: (item: T, at: number) => Promise<R>,
): Promise<readonly R[]> {
  const settled = await settleEach(items, work);
  return settled.map(one => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}
