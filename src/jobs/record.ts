import { z } from 'zod';
import { parseModelUri } from '../domain/model-uri.ts';
import { OutcomeSchema } from '../domain/outcome.ts';

const FORMAT = 1;

/** A job as it is kept on the disk. Times in seconds since 1970, durations in seconds. */
const JobRecordSchema = z.object({
  format: z.literal(FORMAT).default(FORMAT),
  id: z.uuid(),
  /** The process that works on it, by its lease; empty where it has none. */
  process: z.string(),
  model_uris: z.array(z.string().refine(isModelUri)).min(1),
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

export function serializeJob(record: Omit<JobRecord, 'format'>): string {
  return `${JSON.stringify({ format: FORMAT, ...record })}\n`;
}

/** Null where the text is damaged, or of another release. */
export function parseJob(text: string): JobRecord | null {
  try {
    return JobRecordSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
