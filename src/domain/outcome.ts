import { z } from 'zod';
import { ERROR_CODES, type SidecarError } from './errors.ts';

/** As circuit breakers name their states. */
export const BREAKER_STATES = ['closed', 'open', 'half-open'] as const;
export type BreakerState = (typeof BREAKER_STATES)[number];

/** From the worst to the best; of several outcomes the worst one speaks for all. */
export const STATUSES = ['failed', 'missing', 'stale', 'loaded', 'unchanged'] as const;

export const WarningSchema = z.object({
  code: z.enum(ERROR_CODES),
  message: z.string(),
  hint: z.string().nullable(),
});

/** The answer to one reload: flat, under 4 KB, so that it fits where a task's result is stored. */
export const OutcomeSchema = z.object({
  status: z.enum(STATUSES).describe('how it went'),
  model_uri: z.string().describe('what was asked for'),
  mlflow_uri: z.string().describe('MLflow’s address, without credentials'),
  name: z.string().nullable().describe('of the registered model'),
  version: z.string().nullable().describe('the version that is given'),
  wanted_version: z.string().nullable().describe('the newer version that could not be given, if known'),
  previous_version: z.string().nullable().describe('what was published before this call'),
  changed: z.boolean().describe('another snapshot is published than before this call'),
  stage: z.string().nullable().describe('of that version'),
  aliases: z.array(z.string()).describe('of that version'),
  run_id: z.string().nullable().describe('the run that made it'),
  model_id: z.string().nullable().describe('the logged model that it is of'),
  created: z.number().nullable().describe('when it was made, in seconds since 1970'),
  path: z.string().nullable().describe('the snapshot’s directory: give this to load_model'),
  ref_path: z
    .string()
    .nullable()
    .describe(
      'the pointer that moves; resolve it once; null also where the file system has no symbolic links',
    ),
  digest: z.string().nullable().describe('sha256 over the sorted lines path NUL size NUL sha256 LF'),
  files: z.number().int().nullable().describe('how many it has'),
  bytes: z.number().int().nullable().describe('how large they are'),
  source: z.enum(['mlflow', 'cache']).nullable().describe('where the bytes of this call came from'),
  age_s: z.number().nullable().describe('seconds since MLflow last confirmed this version'),
  duration_s: z.number().describe('seconds that the call took'),
  attempts: z.number().int().describe('tries that the most retried registry request of this call needed'),
  breaker: z
    .enum(BREAKER_STATES)
    .describe('the worst state among the servers that this call needed; open: left alone for now'),
  refreshing: z.boolean().describe('work goes on in the background'),
  job_id: z.string().nullable().describe('of the asynchronous reload that it is the end of'),
  warning: WarningSchema.nullable().describe('why it is not as wanted: code, message and hint'),
  request_id: z.string().describe('the log’s lines of this call have it'),
});

export type Outcome = z.infer<typeof OutcomeSchema>;
export type Warning = z.infer<typeof WarningSchema>;

/** The first of the worst outcomes. */
export function worstOf(outcomes: readonly [Outcome, ...Outcome[]]): Outcome {
  return outcomes.reduce((worst, next) =>
    STATUSES.indexOf(next.status) < STATUSES.indexOf(worst.status) ? next : worst,
  );
}

/** Whether a model was given. */
export function isGiven(outcome: Outcome): boolean {
  return outcome.path !== null;
}

const retryAfterS = new WeakMap<Outcome, number>();

/** Beside the outcome, which goes to callers as it stands and has no field for it. */
export function noteRetryAfter(outcome: Outcome, error: SidecarError): void {
  if (error.retryAfterS !== null) retryAfterS.set(outcome, error.retryAfterS);
}

/** Seconds until asking again makes sense, where its failure says. */
export function retryAfterOf(outcome: Outcome): number | undefined {
  return retryAfterS.get(outcome);
}

export function worstBreaker(states: readonly BreakerState[]): BreakerState {
  const fromWorst = ['open', 'half-open'] as const;
  return fromWorst.find(state => states.includes(state)) ?? 'closed';
}

export function warningOf(error: SidecarError): Warning {
  return { code: error.code, message: clipped(error.message), hint: error.hint };
}

/** What others said may stand in it, at any length. */
const MAX_MESSAGE_LENGTH = 400;

function clipped(text: string): string {
  return text.length <= MAX_MESSAGE_LENGTH ? text : `${text.slice(0, MAX_MESSAGE_LENGTH).toWellFormed()}…`;
}
