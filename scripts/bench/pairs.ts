const PAIRS = 5;

/**
 * Ratios of pairs that follow one another at once, each in another order than the last.
 * @param ours gives milliseconds, as `theirs` does
 */
export async function pairs(
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
  count = PAIRS,
): Promise<readonly number[]> {
  const ratios: number[] = [];
  for (let n = 0; n < count; n++) {
    const first = n % 2 === 0 ? await ours() : await theirs();
    const second = n % 2 === 0 ? await theirs() : await ours();
    ratios.push(n % 2 === 0 ? first / second : second / first);
    console.log(`  ${ratios.at(-1)?.toFixed(2)} (${Math.round(first)} and ${Math.round(second)} ms)`);
  }
  return ratios;
}
