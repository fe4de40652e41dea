/** One version of a model, as the registry names it. Everything here came from outside and has been parsed. */
export interface ModelVersion {
  readonly name: string | null;
  readonly version: string | null;
  readonly stage: string | null;
  readonly aliases: readonly string[];
  readonly runId: string | null;
  readonly modelId: string | null;
  /** Milliseconds since 1970, as MLflow has it. */
  readonly createdMs: number | null;
  /** Where the registry says that the version was logged; not yet an address to fetch from. */
  readonly source: string;
}

/** Artifact URIs whose files lie over one another; where two have the same path the later one wins. */
export type ArtifactRoot = readonly [string, ...string[]];

/** A deleted version can come back under its number with other content: only all of these say "the same". */
export function isSameVersion(a: ModelVersion, b: ModelVersion): boolean {
  const keys = ['name', 'version', 'createdMs', 'source', 'modelId'] as const;
  return keys.every(key => a[key] === b[key]);
}
