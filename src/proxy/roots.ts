import type { ArtifactRoot } from '../domain/version.ts';

/** Below it stand the roots that MLflow's own artifact server does not have. */
const PREFIX = '~mlflow-sidecar~';
const OWN = /^mlflow-artifacts:\/([^/].*)$/;
/** A root has a run or a model in it, and somebody's experiment above that. */
const FEWEST_SEGMENTS = 2;
/** Each root that a path may be below of is looked for; real ones have a handful. */
const MOST_SEGMENTS = 32;

/** A file or directory, as one below an artifact root. */
export interface Place {
  readonly root: ArtifactRoot;
  /** Relative; empty for the root itself. */
  readonly path: string;
}

/**
 * Where the artifacts of a root are found below `/api/2.0/mlflow-artifacts/artifacts/`: where MLflow has them, or under a name
 * that says which root it is.
 */
export function addressOf(root: ArtifactRoot): readonly string[] {
  const segments = root.length === 1 ? OWN.exec(root[0])?.[1]?.split('/') : undefined;
  if (segments !== undefined && isFindable(segments)) return segments;
  return [`${PREFIX}${Buffer.from(JSON.stringify(root)).toString('base64url')}`];
}

/** Every root that a path of the artifact server may be below of, the longest first. */
export function placesOf(segments: readonly string[]): readonly Place[] {
  const [first = '', ...rest] = segments;
  if (first.startsWith(PREFIX)) {
    const root = parseRoot(first.slice(PREFIX.length));
    const isItsAddress = root !== null && addressOf(root).join('/') === first;
    return isItsAddress ? [{ root, path: rest.join('/') }] : [];
  }
  const places: Place[] = [];
  for (let length = Math.min(segments.length, MOST_SEGMENTS); length >= FEWEST_SEGMENTS; length--) {
    const root = `mlflow-artifacts:/${segments.slice(0, length).join('/')}`;
    places.push({ root: [root], path: segments.slice(length).join('/') });
  }
  return places;
}

/** Whether MLflow's artifact server knows the path, too. */
export function isMlflows(segments: readonly string[]): boolean {
  return segments[0]?.startsWith(PREFIX) !== true;
}

/** Whether `placesOf` its address would find it. */
function isFindable(segments: readonly string[]): boolean {
  const { length } = segments;
  return (
    length >= FEWEST_SEGMENTS && length <= MOST_SEGMENTS && isMlflows(segments) && segments.every(isPlain)
  );
}

/** Without a letter that an address has in another form: clients decode theirs in one place, and not in another. */
function isPlain(segment: string): boolean {
  return /^[\w.!~*'()-]+$/.test(segment) && /[^.]/.test(segment);
}

function parseRoot(encoded: string): ArtifactRoot | null {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(encoded, 'base64url').toString('utf8'));
    if (!Array.isArray(parsed) || !parsed.every(part => typeof part === 'string')) return null;
    const [first, ...more] = parsed;
    return first === undefined ? null : [first, ...more];
  } catch {
    return null;
  }
}
