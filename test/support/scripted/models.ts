/** One entry of a listing, as MLflow answers it. */
export interface ListedEntry {
  readonly path: string;
  readonly is_dir: boolean;
  readonly file_size?: number;
}

export type Files = Readonly<Record<string, Buffer | string>>;

export interface VersionSpec {
  readonly name: string;
  /** Default: the next number of that name. */
  readonly version?: string;
  /** Default `None`. */
  readonly stage?: string;
  readonly aliases?: readonly string[];
  /** By path within the model. */
  readonly files: Files;
  /** Files of the run that logged the model, by path within the run's artifacts. */
  readonly runFiles?: Files;
  /** What the listing of a directory (`''` is the root) says instead of the truth; a buffer is sent as it is. */
  readonly listing?: Readonly<Record<string, readonly ListedEntry[] | Buffer>>;
  /** Where get-download-uri points to instead of this server's own artifacts. */
  readonly downloadUri?: string;
  readonly status?: string;
}

export interface ScriptedVersion {
  readonly name: string;
  readonly version: string;
  readonly runId: string;
  readonly modelId: string;
  readonly createdMs: number;
  readonly status: string;
  readonly downloadUri: string;
  /** The artifact root's path on this server. */
  readonly root: string;
  stage: string;
}

/** The directories of one artifact root. */
export interface ArtifactTree {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly listing: Readonly<Record<string, readonly ListedEntry[] | Buffer>>;
}

/** What the scripted server knows: versions, aliases and the files behind them. */
export class ScriptedModels {
  readonly #versions: ScriptedVersion[] = [];
  readonly #aliases = new Map<string, string>();
  readonly #trees = new Map<string, ArtifactTree>();
  #made = 0;

  add(spec: VersionSpec): ScriptedVersion {
    this.#made += 1;
    const hex = this.#made.toString(16).padStart(32, '0');
    const root = `0/models/m-${hex}/artifacts`;
    const version: ScriptedVersion = {
      name: spec.name,
      version: spec.version ?? String(this.#highest(spec.name) + 1),
      runId: `e${hex.slice(1)}`,
      modelId: `m-${hex}`,
      createdMs: Date.now() + this.#made,
      status: spec.status ?? 'READY',
      downloadUri: spec.downloadUri ?? `mlflow-artifacts:/${root}`,
      root,
      stage: 'None',
    };
    this.#versions.push(version);
    this.#trees.set(root, { files: contents(spec.files), listing: spec.listing ?? {} });
    this.#trees.set(`0/${version.runId}/artifacts`, { files: contents(spec.runFiles ?? {}), listing: {} });
    if (spec.stage !== undefined) this.moveStage(spec.name, version.version, spec.stage);
    for (const alias of spec.aliases ?? []) this.setAlias(spec.name, alias, version.version);
    return version;
  }

  /** As `transition_model_version_stage(…, archive_existing_versions=True)`. */
  moveStage(name: string, version: string, stage: string): void {
    for (const other of this.versionsOf(name)) if (other.stage === stage) other.stage = 'Archived';
    const found = this.find(name, version);
    if (found === undefined) throw new Error(`no version ${version} of ${name}`);
    found.stage = stage;
  }

  setAlias(name: string, alias: string, version: string): void {
    this.#aliases.set(`${name}\0${alias}`, version);
  }

  deleteAlias(name: string, alias: string): void {
    this.#aliases.delete(`${name}\0${alias}`);
  }

  deleteVersion(name: string, version: string): void {
    const at = this.#versions.findIndex(other => other.name === name && other.version === version);
    if (at >= 0) this.#versions.splice(at, 1);
  }

  /** With its files, which `deleteVersion` leaves behind as MLflow does. */
  purgeVersion({ name, version, root, runId }: ScriptedVersion): void {
    this.deleteVersion(name, version);
    this.#trees.delete(root);
    this.#trees.delete(`0/${runId}/artifacts`);
  }

  /** Other files for a version, at the same place. */
  replaceFiles({ root }: ScriptedVersion, files: Files): void {
    this.#trees.set(root, { files: contents(files), listing: {} });
  }

  find(name: string, version: string): ScriptedVersion | undefined {
    return this.#versions.find(other => other.name === name && other.version === version);
  }

  versionsOf(name: string): readonly ScriptedVersion[] {
    return this.#versions.filter(version => version.name === name);
  }

  byModelId(modelId: string): ScriptedVersion | undefined {
    return this.#versions.find(version => version.modelId === modelId);
  }

  byRunId(runId: string): readonly ScriptedVersion[] {
    return this.#versions.filter(version => version.runId === runId);
  }

  all(): readonly ScriptedVersion[] {
    return this.#versions;
  }

  versionOfAlias(name: string, alias: string): string | undefined {
    return this.#aliases.get(`${name}\0${alias}`);
  }

  aliasesOf(version: ScriptedVersion): readonly string[] {
    const prefix = `${version.name}\0`;
    return [...this.#aliases]
      .filter(([key, target]) => key.startsWith(prefix) && target === version.version)
      .map(([key]) => key.slice(prefix.length));
  }

  /** The tree that holds an artifact path, and the rest of the path within it. */
  tree(path: string): { readonly tree: ArtifactTree; readonly rest: string } | undefined {
    for (const [root, tree] of this.#trees) {
      if (path === root) return { tree, rest: '' };
      if (path.startsWith(`${root}/`)) return { tree, rest: path.slice(root.length + 1) };
    }
    return undefined;
  }

  #highest(name: string): number {
    return Math.max(0, ...this.versionsOf(name).map(version => Number(version.version)));
  }
}

function contents(files: Files): ReadonlyMap<string, Buffer> {
  return new Map(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]));
}
