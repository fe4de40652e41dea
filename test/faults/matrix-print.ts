import type { Reloaded } from './harness.ts';
import type { Measured } from './matrix-measure.ts';
import { ROUTE_CLASSES, TROUBLES } from './matrix-table.ts';

/** Rows are faults; seconds are of the call, and after the arrow of one that waited for the end. */
export function printMatrix(measured: readonly Measured[], lateMs: number): void {
  const rows = TROUBLES.map(({ name }) => {
    const cells = measured.filter(({ cell }) => cell.name === name);
    const columns = ROUTE_CLASSES.flatMap(routeClass => {
      const found = cells.find(({ cell }) => cell.routeClass === routeClass);
      return [
        [`${routeClass}, warm`, found === undefined ? '' : shown(found.warm)],
        [`${routeClass}, cold`, found === undefined ? '' : `${shown(found.cold)}${shownLast(found)}`],
      ];
    });
    return [name, { ...Object.fromEntries(columns), left: cells.map(shownLeaks).join(' ') }];
  });
  console.log(
    'MLflow is in trouble. Left 1 s after the end of the last run; (short): the end of the trouble ended that run.',
    `The tests themselves were late by ${Math.round(lateMs)} ms (p99.9).`,
  );
  console.table(Object.fromEntries(rows));
}

function shown({ ms, outcome }: Reloaded): string {
  return `${outcome.status} ${outcome.warning?.code ?? ''} ${(ms / 1_000).toFixed(2)}`;
}

function shownLast({ last }: Measured): string {
  if (last === 'loaded') return ' → loaded';
  return last === null ? '' : ` → ${last.code} ${(last.ms / 1_000).toFixed(1)}`;
}

function shownLeaks({ leaks, last, isRemembered }: Measured): string {
  const isShort = last === null && !isRemembered;
  return `${leaks.length === 0 ? 'nothing' : leaks.join(', ')}${isShort ? ' (short)' : ''}`;
}
