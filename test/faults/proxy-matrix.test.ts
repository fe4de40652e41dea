import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { type PythonDownloads, startPythonDownloads } from '../support/python-downloads.ts';
import { type Certificates, makeCertificates } from '../support/scripted/certificates.ts';
import { IS_LONG } from './matrix-measure.ts';
import type { Cell } from './matrix-table.ts';
import { codeIn, type Load, python, typescript } from './proxy-clients.ts';
import { DEADLINE_S, measureAll, type ProxyMeasured, SHORT_DEADLINE_S, wrongOf } from './proxy-measure.ts';
import { printProxyMatrix } from './proxy-print.ts';
import { CLASSES, type ClientCell, cellsFor } from './proxy-table.ts';

/** More than a load without the fault takes. */
const FIRST_MORE_MS = 3_000;
const NEXT_MORE_MS = 200;
const REGISTRY_COLD_MS = 10_000;
/** The loads of many squares are under way at once; what hangs is given up after 90 s. */
const MANY_AT_ONCE_MS = 40_000;
/** Python's own start is a part of its loads. */
const LATE_MS = { TypeScript: 500, Python: 1_000 };
/** MLflow's client tries these again, seven times. */
const TRIED_AGAIN = [408, 429, 500, 502, 503, 504];
/** The window of the progress floor, which looks once a second; all tries take less. */
const FLOOR_MS = 32_000;
/** Of a file, again and again: no deadline ends that, but the floor, or the end of the tries. */
const SOMETHING_COMES = [
  'trickle',
  'cut',
  'html',
  'broken_json',
  'huge',
  'longer',
  'gzip_bomb',
] as readonly string[];

let certificates: Certificates;
let downloads: PythonDownloads;
let measured: readonly ProxyMeasured[] = [];

beforeAll(async () => {
  [certificates, downloads] = await Promise.all([makeCertificates(), startPythonDownloads()]);
  measured = await measureAll({ TypeScript: typescript, Python: python(downloads) }, certificates);
}, 900_000);

afterAll(async () => {
  await Promise.all([certificates.remove(), downloads.stop()]);
  for (const client of ['TypeScript', 'Python'] as const) printProxyMatrix(measured, client);
});

function of({ cell: { name, routeClass }, client }: ClientCell): ProxyMeasured {
  const found = measured.find(
    ({ cell, client: by }) => cell.name === name && cell.routeClass === routeClass && by === client,
  );
  if (found === undefined) throw new Error(`nothing was measured of "${name}" at the ${routeClass}`);
  return found;
}

/** A name that was found for the listing is not looked up for the files again; and a cache that hangs is done without. */
function isMetByNobody({ evil, routeClass }: Cell): boolean {
  return evil.kind === 'disk' || (evil.kind === 'dns' && routeClass === 'file');
}

function coldLimitMs({ cell: { routeClass, evil }, client }: ClientCell): number {
  if (routeClass === 'registry') return REGISTRY_COLD_MS;
  const isFloors = routeClass === 'file' && SOMETHING_COMES.includes(evil.kind);
  const shortMs = isFloors ? FLOOR_MS : SHORT_DEADLINE_S * 1_000;
  return (IS_LONG ? DEADLINE_S * 1_000 : shortMs) + LATE_MS[client];
}

/** Fails as MLflow's client shows it, and in a way that it takes for final. */
function expectCause(cold: Load, { end, routeClass }: Cell): void {
  const code = codeIn(cold);
  expect(code, cold.error).not.toBeNull();
  if (code !== 'deadline_exceeded' || routeClass === 'registry') expect(code).toBe(end.code);
  else if (end.tryS === 0) expect(cold.error).toContain('Last failure');
  if (cold.status !== null) expect(TRIED_AGAIN).not.toContain(cold.status);
}

const CELLS = CLASSES.flatMap(cellsFor);

describe.each(CELLS)('$cell.routeClass: $cell.name ($client)', one => {
  test('warm: the right bytes within 3 s more than without it, and the next time within 0.2 s more', () => {
    const { baseMs, warm, warmAgain } = of(one);
    expect(warm.error).toBe('');
    expect(warm.ms).toBeLessThan(atMost(baseMs + FIRST_MORE_MS));
    expect(warmAgain.error).toBe('');
    expect(warmAgain.ms).toBeLessThan(atMost(baseMs + NEXT_MORE_MS));
    for (const load of [warm, warmAgain]) expect(wrongOf(load, 'warm')).toEqual([]);
  });

  const givenAllTheSame = () => {
    const { cold } = of(one);
    expect(cold.error).toBe('');
    expect(wrongOf(cold, 'cold')).toEqual([]);
    expect(cold.ms).toBeLessThan(atMost(FIRST_MORE_MS));
  };

  const failsInTime = () => {
    const { cold } = of(one);
    expect(cold.files).toBeNull();
    expect(cold.ms).toBeLessThan(atMost(coldLimitMs(one), MANY_AT_ONCE_MS));
    expectCause(cold, one.cell);
  };

  if (isMetByNobody(one.cell)) test('cold: the right bytes all the same', givenAllTheSame);
  else test('cold: it fails naming the cause, in time', failsInTime);

  test('afterwards nothing is left open, and both models are loaded whole', () => {
    const { leaks, recovered } = of(one);
    expect(leaks).toEqual([]);
    expect(recovered.map(({ error }) => error)).toEqual(['', '']);
    expect(recovered.flatMap((load, at) => wrongOf(load, at === 0 ? 'warm' : 'cold'))).toEqual([]);
  });
});

test('warm, whatever becomes of listings and files: MLflow is not asked for them', () => {
  const asking = measured.filter(({ cell, warmAsked }) => cell.evil.kind !== 'disk' && warmAsked > 0);
  expect(asking.map(({ cell, client }) => `${cell.routeClass}: ${cell.name} (${client})`)).toEqual([]);
});
