/** What a step expected and did not find. */
export class Unmet extends Error {}

let steps = 0;

export function heading(title: string): void {
  steps += 1;
  console.log(`\n── ${steps}. ${title}`);
}

export function say(line: string): void {
  console.log(`   ${line}`);
}

/** @throws Unmet naming both, unless `found` is what was expected */
export function expectSame(what: string, found: unknown, expected: unknown): void {
  if (found !== expected) throw unmet(what, found, JSON.stringify(expected));
  say(`✔ ${what}: ${String(found)}`);
}

/** @throws Unmet unless the text holds the part */
export function expectPart(what: string, text: string, part: string): void {
  if (!text.includes(part)) throw unmet(what, text, `a text with ${JSON.stringify(part)}`);
}

/** @throws Unmet unless it took at most `limitMs`; null means that it never came */
export function expectWithin(what: string, ms: number | null, limitMs: number): void {
  if (ms === null || ms > limitMs) throw unmet(what, ms, `at most ${limitMs} ms`);
  say(`✔ ${what}: ${seconds(ms)} (at most ${seconds(limitMs)} expected)`);
}

/** A time as people read it: `7 ms`, `2.01 s`. */
export function seconds(ms: number): string {
  return ms < 500 ? `${Math.ceil(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`;
}

/** Does the work and says how long it took. */
export async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  say(`${what} …`);
  const startedAt = performance.now();
  const result = await work();
  say(`  done in ${seconds(performance.now() - startedAt)}`);
  return result;
}

function unmet(what: string, found: unknown, expected: string): Unmet {
  return new Unmet(`${what}: expected ${expected}, found ${JSON.stringify(found)}`);
}
