import { type Found, findRead } from '../../proxy/reads.ts';

/** What a request to MLflow's API is for. */
export type Target =
  | { readonly kind: 'read'; readonly found: Found }
  | { readonly kind: 'listing' }
  /** @param segments decoded, below the artifact server's address */
  | { readonly kind: 'file'; readonly segments: readonly string[] }
  | { readonly kind: 'plain'; readonly path: 'health' | 'version' }
  /** Addresses of artifacts elsewhere, past the sidecar. */
  | { readonly kind: 'presigned' }
  /** @param path rebuilt from decoded segments, with a slash at its beginning */
  | { readonly kind: 'other'; readonly server: 'registry' | 'tracking'; readonly path: string }
  /** For a browser, or for nobody: not MLflow's API. */
  | { readonly kind: 'foreign' }
  | { readonly kind: 'malformed' };

/** Where its clients send the spans of a trace, in OpenTelemetry's protocol. */
export const SPANS_PATH = '/v1/traces';

/** Where else MLflow's server answers. None of it is for a client that loads models. */
const FOREIGN = new Set(['ajax-api', 'graphql', 'gateway', 'get-artifact', 'model-versions', 'static-files']);
const REGISTRY = new Set(['registered-models', 'model-versions', 'webhooks']);
const ENDS_IN_ARTIFACTS = 3;
/** What the services call whatever gives such addresses. */
const PRESIGNED: ReadonlySet<string> = new Set([
  'presigned',
  'presigned-download-url',
  'presigned-upload-url',
]);
/** How often a server behind may decode a path that it has decoded once: MLflow has done so. */
const DECODED_AGAIN = 3;
/** Most of them, so that the rest need not be looked for in them. */
const SIMPLE_NAME = /^[\w-][\w.-]*$/;
/** The directory, the one above it, or nothing; some servers leave off dots and spaces at its end, others what follows a semicolon. */
const NO_NAME = /^[. ]*(?:;|$)/;
const NOT_IN_A_NAME = /[/\\\p{Cc}]/u;
/** More bytes for a letter than it takes: to some a dot or a slash, to others nothing. */
const OVERLONG = /%(?:c[01]|e0%[89]|f0%8)/i;
/** A fragment, which is none of a request's, and bytes that stand for nothing. */
const NOT_IN_A_TARGET = /[^!"$-~]/;

/**
 * What a path of MLflow's means, by its decoded segments: nothing of it goes on as it came.
 * @param path of the request, without its query, as it came
 * @returns null where the path is none of MLflow's
 */
export function targetOf(method: string, path: string): Target | null {
  const [, first = '', ...rest] = path.split('/');
  const head = decoded(first);
  if (head === 'health' || head === 'version') {
    const isPlain = rest.length === 0 && (method === 'GET' || method === 'HEAD');
    return isPlain ? { kind: 'plain', path: head } : { kind: 'foreign' };
  }
  if (head !== 'api') return head !== null && FOREIGN.has(head) ? { kind: 'foreign' } : null;
  if (NOT_IN_A_TARGET.test(path)) return { kind: 'malformed' };
  const segments: string[] = [];
  for (const part of rest) {
    const segment = decoded(part);
    if (segment === null || !isName(segment)) return { kind: 'malformed' };
    segments.push(segment);
  }
  return apiTarget(method, segments);
}

/** Whether whoever asks for the path speaks as MLflow's clients do. */
export function isMlflows(path: string): boolean {
  return path === SPANS_PATH || targetOf('GET', path) !== null;
}

/** Segments of a directory of the artifact store, whose path may end in a slash; null where it leads elsewhere, or is none. */
export function artifactSegments(path: string): readonly string[] | null {
  const dir = path.endsWith('/') ? path.slice(0, -1) : path;
  const segments = dir === '' ? [] : dir.split('/');
  return segments.every(isName) ? segments : null;
}

function apiTarget(method: string, segments: readonly string[]): Target {
  const [version = '', service = '', ...below] = segments;
  if (version !== '2.0' && version !== '3.0') return { kind: 'foreign' };
  const isRead = method === 'GET' || method === 'HEAD';
  const [first = '', second = ''] = below;
  if (service === 'mlflow-artifacts' && PRESIGNED.has(first)) return { kind: 'presigned' };
  if (service === 'mlflow' && first === 'artifacts' && PRESIGNED.has(second)) return { kind: 'presigned' };
  if (version === '2.0' && service === 'mlflow-artifacts' && first === 'artifacts' && isRead)
    return below.length === 1
      ? { kind: 'listing' }
      : { kind: 'file', segments: segments.slice(ENDS_IN_ARTIFACTS) };
  const found = service === 'mlflow' ? findRead(method, `${version}/mlflow`, below) : null;
  if (found !== null) return { kind: 'read', found };
  const server = REGISTRY.has(first) ? 'registry' : 'tracking';
  return { kind: 'other', server, path: `/api/${segments.map(encodeURIComponent).join('/')}` };
}

function decoded(part: string): string | null {
  if (!part.includes('%')) return part;
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** One name that stays where it is, however often a server behind decodes it. */
function isName(segment: string): boolean {
  if (SIMPLE_NAME.test(segment)) return true;
  let text = segment;
  for (let times = 0; times <= DECODED_AGAIN; times++) {
    if (NO_NAME.test(text) || NOT_IN_A_NAME.test(text) || OVERLONG.test(text)) return false;
    const again = unquoted(text);
    if (again === text) return true;
    text = again;
  }
  return false;
}

/** As Python decodes: what cannot be decoded stays, and the rest does not. */
function unquoted(text: string): string {
  if (!text.includes('%')) return text;
  return text.replace(/(?:%[\da-f]{2})+/gi, bytes =>
    Buffer.from(bytes.replaceAll('%', ''), 'hex').toString('utf8'),
  );
}
