import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { type ArtifactRoot, type VersionRoot, versionKey } from '../domain/version.ts';

/** What a client asked about so long ago is none of the load that it is in now. */
const MOST = 1_000;
/** Of one version or root: more names than these are not asked for in one load. */
const MOST_URIS = 100;

interface Held {
  readonly uri: ModelUri;
  /** That it meant when the root was named; null where it can mean no other. */
  readonly version: string | null;
}

/** A run that is over. Times in milliseconds since 1970. */
export interface EndedRun {
  readonly runId: string;
  /** Where its artifacts are. */
  readonly root: string;
  readonly startedMs: number | null;
  readonly endedMs: number;
}

/**
 * What clients learned lately, so that a load of theirs is known for one: which URIs mean which version, and where the files of
 * which version are.
 */
export class Interests {
  readonly #versions = new Recent<string>();
  readonly #urisOf = new Recent<Map<string, ModelUri>>();
  readonly #roots = new Recent<Map<string, Held>>();
  readonly #runIds = new Recent<true>();
  readonly #runs = new Recent<EndedRun>();
  /** What MLflow's own address of a root stands for. */
  readonly #shown = new Recent<{ readonly version: string; readonly run: EndedRun | null }>();

  /** A client was told that `uri` means this version. */
  resolved(scope: Scope, uri: ModelUri, name: string, version: string): void {
    const text = formatModelUri(uri);
    const key = JSON.stringify([scope.id, name, version]);
    this.#versions.update(JSON.stringify([scope.id, text]), () => key);
    this.#urisOf.update(key, uris => added(uris, text, uri));
  }

  /** A client was told where the files of this version are. */
  located(scope: Scope, name: string, version: string, root: VersionRoot): void {
    const key = JSON.stringify([scope.id, name, version]);
    this.holds(scope, root, { kind: 'version', name, version });
    for (const uri of this.#urisOf.get(key)?.values() ?? []) this.#hold(scope, root, { uri, version: key });
  }

  /** The URIs that clients were told to mean this version. */
  meaning(scope: Scope, name: string, version: string): readonly ModelUri[] {
    return [...(this.#urisOf.get(JSON.stringify([scope.id, name, version]))?.values() ?? [])];
  }

  /** The files of the version are those of `uri`. */
  holds(scope: Scope, root: VersionRoot, uri: ModelUri): void {
    this.#hold(scope, root, { uri, version: null });
  }

  /** The same, by MLflow's own address of the root: of a logged model, or of what a run that is over logged. */
  shows(scope: Scope, root: VersionRoot, uri: ModelUri): void {
    const run = uri.kind === 'run' ? this.#runAbove(scope, root.root[0]) : null;
    this.#shown.update(rootKey(scope, root.root), () => ({ version: root.version, run }));
    this.holds(scope, root, uri);
  }

  /** Which version MLflow's own address of the root stands for; null where none is known, or its run went on since. */
  shownAt(scope: Scope, root: ArtifactRoot): string | null {
    const shown = this.#shown.get(rootKey(scope, root));
    if (shown === undefined) return null;
    const isStill = shown.run === null || this.#runAbove(scope, root[0])?.endedMs === shown.run.endedMs;
    return isStill ? shown.version : null;
  }

  /** A run that is over. */
  ran(scope: Scope, run: EndedRun): void {
    this.#runs.update(JSON.stringify([scope.id, run.root]), () => run);
    this.#runIds.update(JSON.stringify([scope.id, run.runId]), () => true);
  }

  /** A run that is not over, or not any more. */
  runs(scope: Scope, runId: string, root: string): void {
    this.#runs.delete(JSON.stringify([scope.id, root]));
    this.#runIds.delete(JSON.stringify([scope.id, runId]));
  }

  /** Whether a client asked for this run, and it is over. */
  hasRun(scope: Scope, runId: string): boolean {
    return this.#runIds.get(JSON.stringify([scope.id, runId])) ?? false;
  }

  /** The URI of what a run that is over has at `root`; null where no client asked for such a run. */
  runUriOf(scope: Scope, root: string): Extract<ModelUri, { kind: 'run' }> | null {
    const run = this.#runAbove(scope, root);
    return run === null ? null : { kind: 'run', runId: run.runId, path: root.slice(run.root.length + 1) };
  }

  /** What a run that is over has at `root`, as a reload of that URI fetches it; null where no client asked for such a run. */
  runRootOf(scope: Scope, root: string): VersionRoot | null {
    const run = this.#runAbove(scope, root);
    if (run === null) return null;
    const { runId, startedMs: createdMs, endedMs } = run;
    const ofRun = { name: null, version: null, stage: null, aliases: [], modelId: null };
    return { root: [root], version: versionKey({ ...ofRun, runId, createdMs, endedMs, source: root }) };
  }

  /** Whether a client was told that a version's files are there. */
  has(scope: Scope, root: VersionRoot): boolean {
    return this.#roots.get(versionRootKey(scope, root)) !== undefined;
  }

  /** What it is that clients load from there. */
  urisAt(scope: Scope, root: VersionRoot): readonly ModelUri[] {
    const held = [...(this.#roots.get(versionRootKey(scope, root))?.values() ?? [])];
    return held.filter(one => this.#isStillMeant(scope, one)).map(({ uri }) => uri);
  }

  #runAbove(scope: Scope, root: string): EndedRun | null {
    for (let end = root.lastIndexOf('/'); end > 0; end = root.lastIndexOf('/', end - 1)) {
      const run = this.#runs.get(JSON.stringify([scope.id, root.slice(0, end)]));
      if (run !== undefined) return run;
    }
    return null;
  }

  #hold(scope: Scope, root: VersionRoot, held: Held): void {
    const text = formatModelUri(held.uri);
    this.#roots.update(versionRootKey(scope, root), uris => added(uris, text, held));
  }

  #isStillMeant(scope: Scope, { uri, version }: Held): boolean {
    return (
      version === null || this.#versions.get(JSON.stringify([scope.id, formatModelUri(uri)])) === version
    );
  }
}

function versionRootKey(scope: Scope, { root, version }: VersionRoot): string {
  return JSON.stringify([scope.id, root, version]);
}

function rootKey(scope: Scope, root: ArtifactRoot): string {
  return JSON.stringify([scope.id, root]);
}

/** One more, in place of the one that was added longest ago where there are too many. */
function added<T>(before: Map<string, T> | undefined, key: string, value: T): Map<string, T> {
  const all = before ?? new Map<string, T>();
  all.delete(key);
  all.set(key, value);
  const [oldest] = all.keys();
  if (oldest !== undefined && all.size > MOST_URIS) all.delete(oldest);
  return all;
}

/** A map of what was touched last. */
class Recent<T> {
  readonly #entries = new Map<string, T>();

  get(key: string): T | undefined {
    return this.#entries.get(key);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  update(key: string, change: (before: T | undefined) => T): void {
    const after = change(this.#entries.get(key));
    this.#entries.delete(key);
    this.#entries.set(key, after);
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined && this.#entries.size > MOST) this.#entries.delete(oldest);
  }
}
