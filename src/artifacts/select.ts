import { fileURLToPath } from 'node:url';
import { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Breaker } from '../policy/breaker.ts';
import type { MlflowClient } from '../upstream/mlflow-client.ts';
import { LocalFiles } from './local-files.ts';
import { MlflowArtifacts } from './mlflow-artifacts.ts';
import { childOf, ROOT, unsafe } from './paths.ts';
import type { ArtifactSource } from './source.ts';

const ENDPOINT = '/api/2.0/mlflow-artifacts/artifacts';
/** As MLflow's own client finds the end of the endpoint in an `http(s):` root. */
const ENDPOINT_MARK = '/mlflow-artifacts/artifacts';

export interface SourceOptions {
  readonly client: MlflowClient;
  readonly events: EventBus;
  readonly trackingUri: string;
  readonly fileRoots: readonly string[];
  readonly breakerOf?: (origin: string) => Breaker;
}

/**
 * The source for one artifact root, chosen by its scheme.
 * @throws SidecarError `unsupported_scheme` or `unsafe_path`
 */
export function selectSource(root: string, options: SourceOptions): ArtifactSource {
  const scheme =
    /^([a-z][a-z0-9+.-]*):/i.exec(root)?.[1]?.toLowerCase() ?? (root.startsWith('/') ? 'file' : '');
  if (scheme === 'mlflow-artifacts') return proxied(root, options);
  if (scheme === 'http' || scheme === 'https') return remote(root, options);
  if (scheme === 'file' && options.fileRoots.length > 0)
    return new LocalFiles(localPath(root), options.fileRoots);
  throw new SidecarError('unsupported_scheme', `Artifacts at ${shown(root)} cannot be fetched.`, {
    hint: hintFor(scheme),
  });
}

/** `mlflow-artifacts:/path` on the tracking server, `mlflow-artifacts://host[:port]/path` on another. */
function proxied(root: string, options: SourceOptions): ArtifactSource {
  const url = parseUrl(root);
  const base =
    url.host === '' ? options.trackingUri : `${new URL(options.trackingUri).protocol}//${url.host}`;
  const path = root.slice(root.indexOf(':') + 1).replace(/^\/\/[^/]*/, '');
  return new MlflowArtifacts(
    options.client,
    options.events,
    `${base}${ENDPOINT}`,
    segments(path, text => text),
    options.breakerOf?.(new URL(base).origin),
  );
}

function remote(root: string, options: SourceOptions): ArtifactSource {
  const url = parseUrl(root);
  const mark = url.pathname.indexOf(ENDPOINT_MARK);
  if (mark < 0 || url.username !== '' || url.search !== '') {
    throw new SidecarError(
      'unsupported_scheme',
      `${shown(root)} is no address of an MLflow artifact server.`,
    );
  }
  const end = mark + ENDPOINT_MARK.length;
  const endpoint = url.origin + url.pathname.slice(0, end);
  return new MlflowArtifacts(
    options.client,
    options.events,
    endpoint,
    segments(url.pathname.slice(end), decoded),
    options.breakerOf?.(url.origin),
  );
}

function localPath(root: string): string {
  if (root.startsWith('/')) return root;
  try {
    return fileURLToPath(root);
  } catch (cause) {
    throw new SidecarError('unsupported_scheme', `${shown(root)} is no local file address.`, { cause });
  }
}

function segments(path: string, decode: (text: string) => string): readonly string[] {
  const parts = path.split('/').filter(part => part !== '');
  return parts.map(part => childOf(ROOT, decode(part)).path);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw unsafe(part, 'is not percent-encoded as it should be');
  }
}

function parseUrl(root: string): URL {
  try {
    return new URL(root);
  } catch (cause) {
    throw new SidecarError('unsupported_scheme', `${shown(root)} is no address.`, { cause });
  }
}

/** Without what may be a credential. */
function shown(root: string): string {
  return root
    .replace(/\/\/[^/]*@/, '//')
    .replace(/[?#].*$/, '')
    .slice(0, 200);
}

function hintFor(scheme: string): string {
  return scheme === 'file'
    ? 'Name the directory in SIDECAR_FILE_ROOTS if models may be read from there.'
    : 'Let MLflow serve the artifacts itself: start it with --serve-artifacts and --artifacts-destination.';
}
