import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { type Clock, steady, steadyTime, wallTime } from '../domain/clock.ts';
import { formatModelUri, parseModelUri } from '../domain/model-uri.ts';
import { OutcomeSchema } from '../domain/outcome.ts';
import type { JobRequest } from './api.ts';

const FORMAT = 1;
const ModelUriText = z.string().refine(isModelUri);

/** A job as it is kept on the disk, with times in seconds since 1970; in memory they are steady. Durations in seconds. */
const JobRecordSchema = z.object({
  format: z.literal(FORMAT),
  id: z.uuid(),
  /** The process that works on it, by its lease. */
  process: z.string(),
  /** The registry and workspace that it is about. */
  scope: z.string(),
  /** How often a process went on with it that another left. */
  resumed: z.number().int(),
  model_uris: z.tuple([ModelUriText], ModelUriText),
  is_list: z.boolean(),
  begun_at: z.number(),
  deadline_at: z.number(),
  refresh_wait_s: z.number(),
  max_stale_s: z.number(),
  force: z.boolean(),
  /** Whether it asks with the sidecar's own credential; a caller's own is not kept. */
  own_credential: z.boolean(),
  request_id: z.string(),
  airflow: z.record(z.string(), z.string()),
  end: z
    .object({
      at: z.number(),
      outcomes: z.tuple([OutcomeSchema], OutcomeSchema),
    })
    .nullable(),
});

export type JobRecord = z.infer<typeof JobRecordSchema>;

function isModelUri(text: string): boolean {
  try {
    parseModelUri(text);
    return true;
  } catch {
    return false;
  }
}

interface Place {
  readonly process: string;
  readonly scope: string;
  readonly clock: Clock;
}

/** Of a job that begins now. */
export function recordOf(
  { caller, uris, ...request }: JobRequest,
  { process, scope, clock }: Place,
): JobRecord {
  const now = steady(clock);
  const [first, ...others] = uris;
  return {
    format: FORMAT,
    id: randomUUID(),
    process,
    scope,
    resumed: 0,
    model_uris: [formatModelUri(first), ...others.map(formatModelUri)],
    is_list: request.isList,
    begun_at: now / 1_000,
    deadline_at: (now + request.deadlineAt - clock.monotonic()) / 1_000,
    refresh_wait_s: request.refreshWaitMs / 1_000,
    max_stale_s: request.maxStaleMs / 1_000,
    force: request.force,
    own_credential: caller.authorization === null,
    request_id: caller.requestId,
    airflow: { ...caller.airflow },
    end: null,
  };
}

const TRY = ['dag_id', 'dag_run_id', 'task_id', 'try_number'];

/** A deferrable operator repeats its request, and a triggerer that starts again does. */
export function isSameTry(a: JobRecord, b: JobRecord): boolean {
  if (!(a.own_credential && b.own_credential && TRY.every(name => name in b.airflow))) return false;
  const asked = ({ airflow, model_uris: uris, is_list: isList, force, max_stale_s: maxStaleS }: JobRecord) =>
    JSON.stringify([...TRY, 'map_index'].map(name => airflow[name])) +
    JSON.stringify([uris, isList, force, maxStaleS]);
  return asked(a) === asked(b);
}

export function serializeJob(record: JobRecord): string {
  const shown = (s: number) => wallTime(s * 1_000) / 1_000;
  const { begun_at: begunAt, deadline_at: deadlineAt, end } = record;
  const times = { begun_at: shown(begunAt), deadline_at: shown(deadlineAt) };
  return `${JSON.stringify({ ...record, ...times, end: end === null ? null : { ...end, at: shown(end.at) } })}\n`;
}

/** Null where the text is damaged, or of another release. */
export function parseJob(text: string): JobRecord | null {
  try {
    const stored = JobRecordSchema.parse(JSON.parse(text));
    const { begun_at: begunAt, deadline_at: deadlineAt, end } = stored;
    const begun = steadyTime(begunAt * 1_000) / 1_000;
    return {
      ...stored,
      begun_at: begun,
      deadline_at: begun + deadlineAt - begunAt,
      end: end === null ? null : { ...end, at: steadyTime(end.at * 1_000) / 1_000 },
    };
  } catch {
    return null;
  }
}
