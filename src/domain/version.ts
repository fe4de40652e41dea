import { createHash } from 'node:crypto';

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
  /** When the run that it is of was over, in milliseconds since 1970; null while files may still come, and for a version of no run. */
  readonly endedMs?: number | null | undefined;
  /** Where the registry says that the version was logged; not yet an address to fetch from. */
  readonly source: string;
}

/** Artifact URIs whose files lie over one another; where two have the same path the later one wins. */
export type ArtifactRoot = readonly [string, ...string[]];

/** A deleted version can come back under its number with other content: only all of these say "the same". */
export function isSameVersion(a: ModelVersion, b: ModelVersion): boolean {
  return identityOf(a) === identityOf(b);
}

/**
 * Artifacts as one version has them. An artifact root can be overwritten, by a run that logs to the same path again: what was
 * fetched from it for one version says nothing of the next.
 */
export interface VersionRoot {
  readonly root: ArtifactRoot;
  /** The `versionKey` of the version that they are fetched for. */
  readonly version: string;
}

/** Equal for what `isSameVersion` calls the same; fit for a file's name. */
export function versionKey(version: ModelVersion): string {
  return createHash('sha256').update(identityOf(version)).digest('hex').slice(0, 32);
}

function identityOf({ name, version, createdMs, source, modelId, endedMs = null }: ModelVersion): string {
  return JSON.stringify([name, version, createdMs, source, modelId, endedMs]);
}
