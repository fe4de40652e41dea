import { ROUTES } from './tables.ts';

/** What only MLflow's clients send, and is refused by name. */
const REFUSED = { method: 'POST', path: '/v1/traces' };
const KNOWN = [...ROUTES, REFUSED].map(({ method, path }) => ({
  method,
  path: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
}));
/** Paths of MLflow's, ends of them, and places on a disk. */
const OF_OTHERS = [
  ...['/health', '/version', '/alias', '/search', '/get-latest-versions', '/get-download-uri'],
  ...['/ajax-api', '/graphql', '/gateway', '/models/topic-classification'],
];
const BELOW_OTHERS = /^\/(?:api\/[23]\.0|etc|var)(?:\/|$)|^\/\//;

/** What is wrong with a path, perhaps after a method and before a query; null where it is one of ours, or known to be none. */
export function routeFault(route: string): string | null {
  const [, method = '', path = ''] = /^(?:([A-Z]+) )?(\/[^\s?]*)/.exec(route) ?? [];
  if (OF_OTHERS.includes(path) || BELOW_OTHERS.test(path)) return null;
  const methods = KNOWN.filter(known => known.path.test(path)).map(known => known.method);
  if (methods.length === 0) return `${route} is no route`;
  const asked = method === 'HEAD' ? 'GET' : method;
  return asked === '' || methods.includes(asked) ? null : `${route} takes ${methods.join(', ')} alone`;
}
