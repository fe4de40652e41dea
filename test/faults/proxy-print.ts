import { ROUTE_CLASSES, TROUBLES } from './matrix-table.ts';
import { codeIn, type Load } from './proxy-clients.ts';
import type { ProxyMeasured } from './proxy-measure.ts';
import type { ClientName } from './proxy-table.ts';

/** Rows are faults; seconds of a warm load are without the fault, with it, and of the next one. */
export function printProxyMatrix(measured: readonly ProxyMeasured[], client: ClientName): void {
  const rows = TROUBLES.flatMap(({ name }) => {
    const cells = measured.filter(one => one.cell.name === name && one.client === client);
    const columns = ROUTE_CLASSES.flatMap(routeClass => {
      const found = cells.find(({ cell }) => cell.routeClass === routeClass);
      return [
        [`${routeClass}, warm`, found === undefined ? '' : shownWarm(found)],
        [`${routeClass}, cold`, found === undefined ? '' : shownCold(found.cold)],
      ];
    });
    const left = cells.map(({ leaks }) => (leaks.length === 0 ? 'nothing' : leaks.join(', '))).join(' ');
    return cells.length === 0 ? [] : [[name, { ...Object.fromEntries(columns), left }]];
  });
  console.log(`MLflow is in trouble, and its client (${client}) loads through the sidecar.`);
  console.table(Object.fromEntries(rows));
}

function shownWarm({ baseMs, warm, warmAgain }: ProxyMeasured): string {
  return `${seconds(baseMs)} ${shownLoad(warm)} ${shownLoad(warmAgain)}`;
}

function shownLoad(load: Load): string {
  return `${load.files === null ? `${codeIn(load)} ` : ''}${seconds(load.ms)}`;
}

function shownCold(cold: Load): string {
  return `${cold.files === null ? (codeIn(cold) ?? 'no code of ours') : 'loaded'} ${(cold.ms / 1_000).toFixed(1)}`;
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(2);
}
