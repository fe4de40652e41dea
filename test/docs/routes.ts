import { ROUTES } from './tables.ts';

/** What only MLflow's clients send, and is refused by name. */
const REFUSED = { method: 'POST', path: '/v1/traces' };
const KNOWN = [...ROUTES, REFUSED].map(({ method, path }) => ({
  method,
  path: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
}));
const OURS = /^\/(?:v1(?:\/|$)|metrics|healthz|readyz|openapi)/;

/** What is wrong with a path of ours, perhaps after a method and before a query; null where nothing is, or where it is none of ours. */
export function routeFault(route: string): string | null {
  const [, method = '', path = ''] = /^(?:([A-Z]+) )?(\/[^\s?]*)/.exec(route) ?? [];
  if (!OURS.test(path)) return null;
  const methods = KNOWN.filter(known => known.path.test(path)).map(known => known.method);
  if (methods.length === 0) return `${route} is no route`;
  const asked = method === 'HEAD' ? 'GET' : method;
  return asked === '' || methods.includes(asked) ? null : `${route} takes ${methods.join(', ')} alone`;
}
