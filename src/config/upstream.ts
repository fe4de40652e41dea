import type { Kind, Parsed } from './kinds.ts';

/** An address of MLflow, parted from the credentials that were written into it. */
export interface Upstream {
  /** `http(s)://host[:port][/prefix]`, without a slash at its end. */
  readonly uri: string;
  readonly username: string | null;
  readonly password: string | null;
}

const NEEDED = 'Set it to the address of an MLflow server, such as http://mlflow:5000';

/** What MLflow also takes for a tracking URI, and why the sidecar cannot. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [
    /^(databricks|uc|databricks-uc)\b/i,
    `is Databricks or Unity Catalog, which the sidecar does not speak. ${NEEDED}`,
  ],
  [/^sagemaker\b/i, `is SageMaker, which the sidecar does not speak. ${NEEDED}`],
  [
    /^(sqlite|mysql|postgresql|mssql)\b/i,
    `is a database: start "mlflow server --backend-store-uri …" on it. ${NEEDED}`,
  ],
  [/^(file:|\/|\.)/i, `is a directory: start "mlflow server --backend-store-uri …" on it. ${NEEDED}`],
];

export const upstream: Kind<Upstream> = {
  allowed: 'http://host[:port][/prefix] or https://host[:port][/prefix]',
  parse: raw => (typeof raw === 'string' ? parseUpstream(raw.trim()) : { fault: 'is a list' }),
};

function parseUpstream(text: string): Parsed<Upstream> {
  const elsewhere = ELSEWHERE.find(([pattern]) => pattern.test(text));
  if (elsewhere !== undefined) return { fault: elsewhere[1] };
  const url = httpUrl(text);
  if (url === null) return { fault: `is not the address of an MLflow server. ${NEEDED}` };
  if (url.search !== '' || url.hash !== '') return { fault: 'has a query or a fragment' };
  const username = decoded(url.username);
  const password = decoded(url.password);
  if (username === null || password === null)
    return { fault: 'has a user name or password with a broken %-escape' };
  if ((username === '') !== (password === ''))
    return { fault: 'has a user name without a password, or the reverse' };
  const uri = `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`;
  return { value: username === '' ? { uri, username: null, password: null } : { uri, username, password } };
}

/** A proxy's address, its credentials included. */
export const proxyUrl: Kind<string> = {
  allowed: 'http://host:port or https://host:port',
  parse: raw => {
    // curl and Python take "proxy:3128" for http://proxy:3128.
    const text = typeof raw === 'string' && !raw.includes('://') ? `http://${raw.trim()}` : raw;
    const url = typeof text === 'string' ? httpUrl(text.trim()) : null;
    return url === null ? { fault: 'is not the address of an HTTP proxy' } : { value: url.href };
  },
};

function httpUrl(text: string): URL | null {
  const url = /^https?:\/\//i.test(text) ? URL.parse(text) : null;
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:') ? url : null;
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
