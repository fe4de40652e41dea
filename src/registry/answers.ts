import { z } from 'zod';
import { SidecarError } from '../domain/errors.ts';
import type { ModelVersion } from '../domain/version.ts';

/** MLflow writes 64-bit numbers now as numbers, now as strings. */
const Milliseconds = z.union([z.number(), z.string().regex(/^\d+$/).transform(Number)]);
const Text = z.string().max(4_096);
/** Proto3 leaves out what is empty. */
const OptionalText = Text.nullish().transform(text => (text === undefined || text === '' ? null : text));

const RegisteredVersion = z.object({
  name: Text,
  version: z.union([Text.regex(/^\d+$/), z.number().int().positive().transform(String)]),
  creation_timestamp: Milliseconds.nullish(),
  current_stage: OptionalText,
  source: Text.nullish(),
  run_id: OptionalText,
  status: OptionalText,
  status_message: OptionalText,
  aliases: z.array(Text).max(1_000).nullish(),
});

const LoggedModel = z.object({
  info: z.object({
    model_id: Text,
    name: OptionalText,
    source_run_id: OptionalText,
    creation_timestamp_ms: Milliseconds.nullish(),
    artifact_uri: Text,
    status: OptionalText,
  }),
});

export const LatestVersionsAnswer = z.object({
  model_versions: z.array(RegisteredVersion).max(1_000).nullish(),
});
export const VersionAnswer = z.object({ model_version: RegisteredVersion });
export const DownloadUriAnswer = z.object({ artifact_uri: Text.min(1) });
export const LoggedModelAnswer = z.object({ model: LoggedModel });
export const LoggedModelsAnswer = z.object({
  models: z.array(LoggedModel).max(1_000).nullish(),
  next_page_token: OptionalText,
});
export const RunAnswer = z.object({
  run: z.object({
    info: z.object({
      run_id: Text,
      experiment_id: Text,
      artifact_uri: Text.min(1),
      status: OptionalText,
      start_time: Milliseconds.nullish(),
      end_time: Milliseconds.nullish(),
    }),
  }),
});

export type RegisteredVersion = z.infer<typeof RegisteredVersion>;
export type LoggedModel = z.infer<typeof LoggedModel>;

/** @throws SidecarError `mlflow_error`, naming the field that is not as MLflow writes it */
export function parseAnswer<T>(schema: z.ZodType<T>, body: unknown, what: string): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.join('.') ?? '';
  throw new SidecarError(
    'mlflow_error',
    `${what}: an answer that MLflow does not give (${where}: ${issue?.message}).`,
  );
}

export function toModelVersion(answer: RegisteredVersion): ModelVersion {
  const source = answer.source ?? '';
  return {
    name: answer.name,
    version: answer.version,
    stage: answer.current_stage,
    aliases: answer.aliases ?? [],
    runId: answer.run_id,
    modelId: /^models:\/(m-[\w-]+)$/.exec(source)?.[1] ?? null,
    createdMs: answer.creation_timestamp ?? null,
    source,
  };
}

export function versionOfLogged(info: LoggedModel['info']): ModelVersion {
  return {
    name: null,
    version: null,
    stage: null,
    aliases: [],
    runId: info.source_run_id,
    modelId: info.model_id,
    createdMs: info.creation_timestamp_ms ?? null,
    source: info.artifact_uri,
  };
}

/** `version_not_ready`, or null where the version can be had. */
export function readinessFault(
  what: string,
  status: string | null,
  message: string | null,
): SidecarError | null {
  if (status === null || status === 'READY' || status === 'LOGGED_MODEL_READY') return null;
  return new SidecarError(
    'version_not_ready',
    `${what} has status ${status}${message === null ? '' : `: ${message}`}.`,
    {
      hint: 'Try again when MLflow shows it as READY.',
    },
  );
}
