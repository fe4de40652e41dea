import type { ArtifactRoot, VersionRoot } from '../domain/version.ts';

/** Below it stand versions, each with its root: a root can be overwritten, and a load that began goes on with its version. */
const PREFIX = '~mlflow-sidecar~';
const OWN = /^mlflow-artifacts:\/([^/].*)$/;
/** A root has a run or a model in it, and somebody's experiment above that. */
const FEWEST_SEGMENTS = 2;
/** Each root that a path may be below of is looked for; real ones have a handful. */
const MOST_SEGMENTS = 32;

/** A file or directory, as one below an artifact root. */
export interface Place {
  readonly root: ArtifactRoot;
  /** The key of the version; null where the address is MLflow's, which names none. */
  readonly version: string | null;
  /** Relative; empty for the root itself. */
  readonly path: string;
}

/** Where the artifacts of a version are found below `/api/2.0/mlflow-artifacts/artifacts/`: under a name that says which they are. */
export function addressOf({ root, version }: VersionRoot): readonly string[] {
  return [`${PREFIX}${Buffer.from(JSON.stringify([version, ...root])).toString('base64url')}`];
}

/** Where MLflow's own artifact server has them; null where it does not. */
export function addressAtMlflow(root: ArtifactRoot): readonly string[] | null {
  const segments = root.length === 1 ? OWN.exec(root[0])?.[1]?.split('/') : undefined;
  return segments !== undefined && isFindable(segments) ? segments : null;
}

/** The same path as MLflow's artifact server knows it; null where it does not. */
export function atMlflow(segments: readonly string[]): readonly string[] | null {
  const [first = '', ...rest] = segments;
  if (!first.startsWith(PREFIX)) return segments;
  const named = parseAddress(first);
  const root = named === null ? null : addressAtMlflow(named.root);
  return root === null ? null : [...root, ...rest];
}

/** Every root that a path of the artifact server may be below of, the longest first. */
export function placesOf(segments: readonly string[]): readonly Place[] {
  const [first = '', ...rest] = segments;
  if (first.startsWith(PREFIX)) {
    const named = parseAddress(first);
    return named === null ? [] : [{ ...named, path: rest.join('/') }];
  }
  const places: Place[] = [];
  for (let length = Math.min(segments.length, MOST_SEGMENTS); length >= FEWEST_SEGMENTS; length--) {
    const root = `mlflow-artifacts:/${segments.slice(0, length).join('/')}`;
    places.push({ root: [root], version: null, path: segments.slice(length).join('/') });
  }
  return places;
}

/** Whether `placesOf` its address would find it. */
function isFindable(segments: readonly string[]): boolean {
  const { length } = segments;
  return (
    length >= FEWEST_SEGMENTS &&
    length <= MOST_SEGMENTS &&
    segments[0]?.startsWith(PREFIX) !== true &&
    segments.every(isPlain)
  );
}

/** Without a letter that an address has in another form: clients decode theirs in one place, and not in another. */
function isPlain(segment: string): boolean {
  return /^[\w.!~*'()-]+$/.test(segment) && /[^.]/.test(segment);
}

/** Null for any other text than `addressOf` gives. */
function parseAddress(segment: string): VersionRoot | null {
  try {
    const encoded = Buffer.from(segment.slice(PREFIX.length), 'base64url').toString('utf8');
    const parsed: unknown = JSON.parse(encoded);
    if (!Array.isArray(parsed) || !parsed.every(part => typeof part === 'string')) return null;
    const [version, first, ...more] = parsed;
    if (version === undefined || first === undefined) return null;
    const named: VersionRoot = { version, root: [first, ...more] };
    return addressOf(named)[0] === segment ? named : null;
  } catch {
    return null;
  }
}
