import { setTimeout as delay } from 'node:timers/promises';
import { IS_STRICT } from '../support/limits.ts';
import { type LoadedModel, LoadFailed, loadModel } from '../support/mlflow-load.ts';
import type { Files, ScriptedMlflow, ScriptedVersion } from '../support/scripted-mlflow.ts';

const NAME = 'swap';
export const BY_STAGE = `models:/${NAME}/Production`;
export const BY_ALIAS = `models:/${NAME}@champion`;
/** One that clients follow while it grows, and that is gone on with where it broke off. */
const LARGE_BYTES = 8.5 * 1024 * 1024;
const PAUSE_MS = 20;

/** Files that all say which make of which version they are of, and that are not the same ones in every version. */
export function filesOf(label: string): Files {
  const [version = ''] = label.split('.');
  return {
    MLmodel: label,
    'model.pkl': `${label} `.repeat(1_000 * Number(version)),
    [`only-in-${version}.txt`]: label,
    'data/weights.bin': Buffer.alloc(200_000, `weights of ${label} `),
    [`data/${version}/large.bin`]: Buffer.alloc(LARGE_BYTES, `large of ${label} `),
  };
}

/** Two versions of a model, of which one has the stage and one, at times the same, the alias. */
export class SwappedModel {
  readonly #upstream: ScriptedMlflow;
  readonly #makes = new Map<string, Files>();
  #versions: readonly [ScriptedVersion, ScriptedVersion];
  #made = 0;

  /** How many versions were made so far; before each of them but the first two another one was deleted, with its files. */
  get made(): number {
    return this.#made;
  }

  constructor(upstream: ScriptedMlflow) {
    this.#upstream = upstream;
    this.#versions = [this.#make('1'), this.#make('2')];
    this.#name(0, 0);
  }

  /** The stage moves; the alias does, or stays for once. */
  swap(times: number, aliasStays: boolean): void {
    this.#name(times % 2, aliasStays ? (times + 1) % 2 : times % 2);
  }

  /** The version that nothing names now is deleted, with its files, and one of the same number is made. */
  remake(times: number): void {
    const [first, second] = this.#versions;
    const old = times % 2 === 0 ? second : first;
    this.#upstream.models.purgeVersion(old);
    const anew = this.#make(old.version);
    this.#versions = times % 2 === 0 ? [first, anew] : [anew, second];
  }

  /** The number of the version that MLflow would say that a URI means. */
  named(uri: string): string | undefined {
    const { models } = this.#upstream;
    if (uri === BY_ALIAS) return models.versionOfAlias(NAME, 'champion');
    return models.versionsOf(NAME).find(({ stage }) => stage === 'Production')?.version;
  }

  /** What is wrong with a load: it is to be of one make, of the version that was named, and whole. */
  faultOf({ version, files }: LoadedModel): string | null {
    const label = files.get('MLmodel')?.toString() ?? '';
    const wanted = this.#makes.get(label);
    if (wanted === undefined || !label.startsWith(`${version}.`)) return `v${version} has MLmodel "${label}"`;
    const paths = new Set([...Object.keys(wanted), ...files.keys()]);
    const wrong = [...paths].filter(path => {
      const content = wanted[path];
      return content === undefined || files.get(path)?.equals(Buffer.from(content)) !== true;
    });
    return wrong.length === 0 ? null : `v${version} (${label}) has other ${wrong.join(', ')}`;
  }

  #make(version: string): ScriptedVersion {
    const label = `${version}.${++this.#made}`;
    const files = filesOf(label);
    this.#makes.set(label, files);
    return this.#upstream.addVersion({ name: NAME, version, files });
  }

  #name(stage: number, alias: number): void {
    const { models } = this.#upstream;
    models.moveStage(NAME, this.#versions[stage]?.version ?? '', 'Production');
    models.setAlias(NAME, 'champion', this.#versions[alias]?.version ?? '');
  }
}

/** What one client saw. */
export interface Seen {
  readonly faults: string[];
  loads: number;
  /** How often a load was of another version than the one before. */
  changes: number;
  /** Loads that it broke off itself. */
  cuts: number;
  readonly failures: LoadFailed[];
}

/**
 * Loads the model again and again until `done`, and notes what it sees in `seen`.
 * @param cutAfterMs when to break a load off; null to let it be
 */
export async function loadUntil(
  done: AbortSignal,
  base: string,
  uri: string,
  model: SwappedModel,
  cutAfterMs: () => number | null,
  seen: Seen,
): Promise<void> {
  for (let before = ''; !done.aborted; ) {
    const madeBefore = model.made;
    const loaded = await loadOrCut(base, uri, cutAfterMs());
    if (loaded === 'cut') seen.cuts += 1;
    else if (loaded instanceof LoadFailed) {
      seen.failures.push(loaded);
      await delay(PAUSE_MS);
    } else if (loaded.files.size === 0 && (!IS_STRICT || model.made !== madeBefore)) {
      // What it was told of was deleted before it asked for the files: MLflow says that there are none. On a busy machine MLflow
      // is slow, and what it said earlier is given.
      await delay(PAUSE_MS);
    } else {
      const fault = model.faultOf(loaded);
      if (fault !== null) seen.faults.push(fault);
      seen.loads += 1;
      if (before !== '' && before !== loaded.version) seen.changes += 1;
      before = loaded.version;
    }
  }
}

export function nothingSeen(): Seen {
  return { faults: [], loads: 0, changes: 0, cuts: 0, failures: [] };
}

async function loadOrCut(
  base: string,
  uri: string,
  afterMs: number | null,
): Promise<LoadedModel | LoadFailed | 'cut'> {
  const cutting = new AbortController();
  const timer = afterMs === null ? undefined : setTimeout(() => cutting.abort(), afterMs);
  try {
    return await loadModel(base, uri, cutting.signal);
  } catch (error) {
    if (cutting.signal.aborted) return 'cut';
    if (error instanceof LoadFailed) return error;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
