import { z } from 'zod';
import { BREAKER_STATES, OutcomeSchema, STATUSES, WarningSchema } from '../domain/outcome.ts';
import type { PrewarmState } from '../prewarm/api.ts';
import type { BreakerSummary, CacheState, ModelSummary, RegistryHealth } from '../reload/api.ts';

/** What answers look like. They are not parsed by these schemas, only described; the types keep them true. */
export const AnswerSchema = OutcomeSchema.meta({ id: 'Outcome' });
const CodeSchema = WarningSchema.shape.code.meta({ id: 'Code' });
const seconds1970 = z.number().nullable().describe('seconds since 1970');

const RefSchema = z.object({
  model_uri: z.string(),
  ref: z.string(),
  version: z.string().nullable(),
  resolved_version: z
    .string()
    .nullable()
    .describe('what MLflow last said; differs while a newer version is on its way'),
  path: z.string().nullable(),
  ref_path: z.string().nullable(),
  digest: z.string().nullable(),
  files: z.number().int().nullable(),
  bytes: z.number().int().nullable(),
  confirmed_at: seconds1970,
  age_s: z.number().nullable().describe('seconds since MLflow last confirmed this version'),
  last_outcome: z
    .object({
      status: OutcomeSchema.shape.status,
      at: z.number().describe('seconds since 1970'),
      warning: WarningSchema.nullable(),
    })
    .nullable(),
});

export const ModelSchema = z
  .object({
    name: z.string(),
    refs: z.array(RefSchema),
  })
  .meta({ id: 'Model' }) satisfies z.ZodType<ModelSummary>;

export const ModelsSchema = z.object({ models: z.array(ModelSchema) });

const RegistrySchema = z.object({
  uri: z.string(),
  registry_uri: z.string(),
  last_success_at: seconds1970,
  last_failure_at: seconds1970,
  last_error: z.string().nullable(),
  slow: z.boolean().describe('missed its wait lately, and is asked in the background only'),
  health: z
    .object({
      ok: z.boolean(),
      at: z.number().describe('seconds since 1970'),
      latency_ms: z.number(),
      error: z.string().nullable(),
    })
    .nullable()
    .describe('what MLflow’s own /health last said; asked beside a question only, it decides nothing'),
}) satisfies z.ZodType<RegistryHealth>;

const BreakerSchema = z.object({
  name: z.enum(['registry', 'tracking', 'artifacts']),
  host: z.string(),
  state: z.enum(BREAKER_STATES),
  failures: z.number().int().describe('failed tries in a row'),
  retry_in_s: z.number().nullable().describe('seconds until the trial; null unless open'),
  last_failure: z.string().nullable(),
}) satisfies z.ZodType<BreakerSummary>;

const CacheSchema = z.object({
  dir: z.string(),
  usable: z.boolean(),
  problem: z.string().nullable(),
  models: z.number().int(),
  bytes: z.number().int().describe('of what is published'),
  max_bytes: z.number().int(),
  used_bytes: z.number().int().nullable().describe('of everything that is kept, as last counted'),
  free_bytes: z.number().int().nullable().describe('on its file system, as last seen'),
  scrub: z
    .object({
      last_finished_at: z.number().describe('seconds since 1970'),
      files: z.number().int(),
      damaged: z.number().int().describe('files that were taken away, to be fetched again'),
    })
    .nullable()
    .describe('the last background verification of the cache; null before the first one is over'),
}) satisfies z.ZodType<CacheState>;

const PrewarmSchema = z.object({
  model_uri: z.string(),
  schedule: z
    .string()
    .nullable()
    .describe('as cron has it; null where the model is only loaded at the start'),
  timezone: z.string().nullable(),
  next_run_at: seconds1970,
  running: z.boolean(),
  last_run: z
    .object({
      at: z.number().describe('seconds since 1970'),
      duration_s: z.number(),
      status: OutcomeSchema.shape.status,
      version: z.string().nullable(),
      code: CodeSchema.nullable().describe('why it is not as wanted'),
    })
    .nullable(),
  skipped: z
    .number()
    .int()
    .describe('times of the schedule that were left out, since the run before was not over'),
}) satisfies z.ZodType<PrewarmState>;

export const StatusSchema = z
  .object({
    version: z.string(),
    uptime_s: z.number(),
    mlflow: RegistrySchema,
    breaker: z.enum(BREAKER_STATES).describe('the registry’s'),
    breakers: z.array(BreakerSchema).describe('one for each server; the registry’s first'),
    cache: CacheSchema,
    models: z.array(z.string()).describe('the configured model URIs'),
    prewarm: z.array(PrewarmSchema).describe('the models that are loaded before anybody asks'),
  })
  .meta({ id: 'Status' });

export const ListSchema = z
  .object({
    status: OutcomeSchema.shape.status.describe('the worst one’s'),
    models: z.array(AnswerSchema),
    duration_s: z.number(),
  })
  .meta({ id: 'Outcomes' });

export const JobSchema = z
  .object({
    job_id: z.string(),
    done: z.boolean(),
    status: z.enum(['pending', ...STATUSES]).describe('pending until it is done'),
    status_url: z.string().describe('relative to this server; ?wait_s= waits for the end'),
    result_url: z.string().describe('the same for sensors: 404 until it is done'),
    outcome: z
      .union([AnswerSchema, ListSchema])
      .nullable()
      .describe('what a synchronous reload would have answered'),
  })
  .meta({ id: 'Job' });

export const UnknownJobSchema = z.object({
  status: z.literal('failed'),
  version: z.null(),
  path: z.null(),
  warning: WarningSchema,
  request_id: z.string(),
});

const problemMembers = {
  type: z.literal('about:blank'),
  title: z.string(),
  detail: z.string(),
  code: CodeSchema,
  hint: z.string().nullable().describe('what can be done about it'),
};

export const ProblemSchema = z
  .object({
    ...problemMembers,
    status: z.number().int(),
    faults: z
      .array(z.object({ field: z.string(), message: z.string() }))
      .optional()
      .describe('of a 400: everything that is wrong'),
  })
  .meta({ id: 'Problem' });

/** With `on_failure=fail`; `status` is the outcome's. */
export const FailedOutcomeSchema = z
  .object({ ...problemMembers, ...OutcomeSchema.shape })
  .meta({ id: 'FailedOutcome' });
export const FailedListSchema = z
  .object({ ...problemMembers, ...ListSchema.shape })
  .meta({ id: 'FailedOutcomes' });
