/** What `work` gives for each item, in their order, with at most `width` under way. After a failure nothing more is begun. */
export async function mapBounded<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const failures: unknown[] = [];
  const worker = async () => {
    for (const [index, item] of queue) {
      if (failures.length > 0) return;
      results[index] = await work(item, index);
    }
  };
  // All have ended when this has: nobody works on behind the back of whoever handles the failure.
  await Promise.all(
    Array.from({ length: Math.min(width, items.length) }, () =>
      worker().catch(error => void failures.push(error)),
    ),
  );
  if (failures.length > 0) throw failures[0];
  return results;
}
