import { z } from 'zod';
import { steadyTime, systemClock, wallTime } from '../../domain/clock.ts';
import { formatModelUri, type ModelUri, parseModelUri } from '../../domain/model-uri.ts';
import { type ArtifactRoot, type ModelVersion, type VersionRoot, versionKey } from '../../domain/version.ts';

/** What readers get: one version and its snapshot. */
export interface Published {
  readonly version: ModelVersion;
  readonly snapshot: string;
  readonly digest: string;
  readonly files: number;
  readonly bytes: number;
  /** Where it was fetched from. */
  readonly root?: ArtifactRoot | undefined;
  /** The key of the version that it was fetched for, where that is another: a run's model is the model that it logged. */
  readonly fetchedFor?: string | undefined;
}

/**
 * What a URI points to. `resolved` is what MLflow last said, `published` what readers get; the two differ while a
 * download stands between them. Times in steady milliseconds; on the disk they are seconds since 1970.
 */
export interface Ref {
  readonly uri: ModelUri;
  readonly resolved: { readonly version: string | null; readonly at: number } | null;
  readonly published: Published | null;
  /** The snapshot that was published before this one; it is kept, so that going back is quick. */
  readonly previous: string | null;
  /** When MLflow last said that `published` is what is wanted. */
  readonly confirmedAt: number | null;
  /** Since when MLflow refuses the credential. */
  readonly refusedAt: number | null;
}

/** What it was fetched as; null where nobody noted that. */
export function rootOf({ root, version, fetchedFor }: Published): VersionRoot | null {
  return root === undefined ? null : { root, version: fetchedFor ?? versionKey(version) };
}

const FORMAT = 1;
const Text = z.string().nullable();
/** As the store makes them: it becomes part of a path. */
export const SnapshotId = z.string().regex(/^[0-9a-f]{32}(-[0-9a-f]{8})?$/);

const StoredVersion = z.object({
  name: Text,
  version: Text,
  stage: Text,
  aliases: z.array(z.string()),
  runId: Text,
  modelId: Text,
  createdMs: z.number().nullable(),
  endedMs: z.number().nullable().optional(),
  source: z.string(),
});

const StoredRef = z.object({
  format: z.literal(FORMAT),
  model_uri: z.string(),
  scope: z.string(),
  // The next four are of the published snapshot, for readers; seconds since 1970.
  version: Text,
  digest: Text,
  snapshot: Text,
  confirmed_at: z.number().nullable(),
  published: z
    .object({
      version: StoredVersion,
      snapshot: SnapshotId,
      digest: z.string(),
      files: z.number(),
      bytes: z.number(),
      root: z.tuple([z.string()], z.string()).optional(),
      fetchedFor: z.string().optional(),
    })
    .nullable(),
  previous: SnapshotId.nullable().default(null),
  resolved: z.object({ version: Text, at: z.number() }).nullable(),
  refused_at: z.number().nullable(),
});

export function serializeRef(ref: Ref, scopeId: string): string {
  const stored = {
    format: FORMAT,
    model_uri: formatModelUri(ref.uri),
    scope: scopeId,
    version: ref.published?.version.version ?? null,
    digest: ref.published?.digest ?? null,
    snapshot: ref.published?.snapshot ?? null,
    confirmed_at: seconds(ref.confirmedAt),
    published: ref.published,
    previous: ref.previous,
    resolved: ref.resolved === null ? null : { ...ref.resolved, at: wallTime(ref.resolved.at) / 1_000 },
    refused_at: seconds(ref.refusedAt),
  };
  return `${JSON.stringify(stored, null, 2)}\n`;
}

export interface ParsedRef {
  readonly ref: Ref;
  readonly scopeId: string;
  /** Whether its times were written by a clock that was wrong: the record is to be written anew. */
  readonly isOfFuture: boolean;
}

/** The ref and the scope that its record was written for, or null where the record is damaged. */
export function parseRef(text: string): ParsedRef | null {
  try {
    const stored = StoredRef.parse(JSON.parse(text));
    const ref: Ref = {
      uri: parseModelUri(stored.model_uri),
      resolved:
        stored.resolved === null
          ? null
          : { ...stored.resolved, at: steadyTime(Math.round(stored.resolved.at * 1_000)) },
      published: stored.published,
      previous: stored.previous,
      confirmedAt: milliseconds(stored.confirmed_at),
      refusedAt: milliseconds(stored.refused_at),
    };
    const latest = 1_000 * Math.max(stored.confirmed_at ?? 0, stored.refused_at ?? 0);
    return { ref, scopeId: stored.scope, isOfFuture: latest > systemClock.now() };
  } catch {
    return null;
  }
}

function seconds(ms: number | null): number | null {
  return ms === null ? null : wallTime(ms) / 1_000;
}

function milliseconds(s: number | null): number | null {
  return s === null ? null : steadyTime(Math.round(s * 1_000));
}
