import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';

/** What a client asked about so long ago is none of the load that it is in now. */
const MOST = 1_000;

interface Held {
  readonly uri: ModelUri;
  /** That it meant when the root was named; null where it can mean no other. */
  readonly version: string | null;
}

/**
 * What clients learned lately, so that a load of theirs is known for one: which URIs mean which version, and which roots hold
 * versions, whose files never change.
 */
export class Interests {
  readonly #versions = new Recent<string>();
  readonly #urisOf = new Recent<Map<string, ModelUri>>();
  readonly #roots = new Recent<Map<string, Held>>();
  readonly #runIds = new Recent<true>();
  readonly #runs = new Recent<{ readonly runId: string; readonly root: string }>();

  /** A client was told that `uri` means this version. */
  resolved(scope: Scope, uri: ModelUri, name: string, version: string): void {
    const text = formatModelUri(uri);
    const key = JSON.stringify([scope.id, name, version]);
    this.#versions.update(JSON.stringify([scope.id, text]), () => key);
    this.#urisOf.update(key, uris => (uris ?? new Map()).set(text, uri));
  }

  /** A client was told where the files of this version are. */
  located(scope: Scope, name: string, version: string, root: ArtifactRoot): void {
    const key = JSON.stringify([scope.id, name, version]);
    this.holds(scope, root, { kind: 'version', name, version });
    for (const uri of this.#urisOf.get(key)?.values() ?? []) this.#hold(scope, root, { uri, version: key });
  }

  /** The URIs that clients were told to mean this version. */
  meaning(scope: Scope, name: string, version: string): readonly ModelUri[] {
    return [...(this.#urisOf.get(JSON.stringify([scope.id, name, version]))?.values() ?? [])];
  }

  /** The files below the root are those of `uri`, and do not change. */
  holds(scope: Scope, root: ArtifactRoot, uri: ModelUri): void {
    this.#hold(scope, root, { uri, version: null });
  }

  /** A run that is over, whose artifacts are below `root`. */
  ranInto(scope: Scope, runId: string, root: string): void {
    this.#runs.update(JSON.stringify([scope.id, root]), () => ({ runId, root }));
    this.#runIds.update(JSON.stringify([scope.id, runId]), () => true);
  }

  /** Whether a client asked for this run, and it is over. */
  ran(scope: Scope, runId: string): boolean {
    return this.#runIds.get(JSON.stringify([scope.id, runId])) ?? false;
  }

  /** The URI of what a run that is over has at `root`; null where no client asked for such a run. */
  runUriOf(scope: Scope, root: string): ModelUri | null {
    for (let end = root.lastIndexOf('/'); end > 0; end = root.lastIndexOf('/', end - 1)) {
      const run = this.#runs.get(JSON.stringify([scope.id, root.slice(0, end)]));
      if (run !== undefined) return { kind: 'run', runId: run.runId, path: root.slice(end + 1) };
    }
    return null;
  }

  /** Whether a client was told that a version's files are there. */
  has(scope: Scope, root: ArtifactRoot): boolean {
    return this.#roots.get(rootKey(scope, root)) !== undefined;
  }

  /** What it is that clients load from there. */
  urisAt(scope: Scope, root: ArtifactRoot): readonly ModelUri[] {
    const held = [...(this.#roots.get(rootKey(scope, root))?.values() ?? [])];
    return held.filter(one => this.#isStillMeant(scope, one)).map(({ uri }) => uri);
  }

  #hold(scope: Scope, root: ArtifactRoot, held: Held): void {
    const text = formatModelUri(held.uri);
    this.#roots.update(rootKey(scope, root), uris => (uris ?? new Map()).set(text, held));
  }

  #isStillMeant(scope: Scope, { uri, version }: Held): boolean {
    return (
      version === null || this.#versions.get(JSON.stringify([scope.id, formatModelUri(uri)])) === version
    );
  }
}

function rootKey(scope: Scope, root: ArtifactRoot): string {
  return JSON.stringify([scope.id, root]);
}

/** A map of what was touched last. */
class Recent<T> {
  readonly #entries = new Map<string, T>();

  get(key: string): T | undefined {
    return this.#entries.get(key);
  }

  update(key: string, change: (before: T | undefined) => T): void {
    const after = change(this.#entries.get(key));
    this.#entries.delete(key);
    this.#entries.set(key, after);
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined && this.#entries.size > MOST) this.#entries.delete(oldest);
  }
}
