import type { RouteClass } from '../support/scripted-mlflow.ts';
import { IS_LONG } from './matrix-measure.ts';
import { type Cell, squaresOf } from './matrix-table.ts';

export type ClientName = 'TypeScript' | 'Python';

/** Where the first trouble of `npm test` is met: elsewhere than where reloads meet it. */
const TURN = 0;

/** Files first: they wait longest, and the others can begin meanwhile. */
export const CLASSES: readonly RouteClass[] = ['file', 'listing', 'registry'];

/** One square of the matrix, and who meets it. */
export interface ClientCell {
  readonly cell: Cell;
  readonly client: ClientName;
}

/** For which the short form starts MLflow's own client, too. */
const WITH_PYTHON: Readonly<Record<RouteClass, readonly string[]>> = {
  registry: [
    'silent',
    'refused',
    'body at one byte a second',
    'HTTP 503 with Retry-After: 3600',
    'HTML with 200',
    'cut, without Content-Length',
  ],
  listing: ['HTTP 503'],
  file: ['silent', 'cut, without Content-Length', 'body at one byte a second', 'reset'],
};

export function cellsFor(routeClass: RouteClass): readonly ClientCell[] {
  const cells = squaresOf(routeClass, TURN);
  const byPython = cells.filter(({ name }) => IS_LONG || WITH_PYTHON[routeClass].includes(name));
  return [
    ...cells.map(cell => ({ cell, client: 'TypeScript' as const })),
    ...byPython.map(cell => ({ cell, client: 'Python' as const })),
  ];
}
