import { z } from 'zod';
import { formatBytes } from '../domain/bytes.ts';
import { BREAKER_STATES } from '../domain/outcome.ts';
import { oneLine } from '../http/report.ts';
import { type Answer, ask, parsed, problemOf, type Sidecar } from './client.ts';
import { CommandFailure, type ExitCode } from './failure.ts';

/** It waits for neither MLflow nor the disk. */
const TIMEOUT_MS = 5_000;

/** What the summary shows of `GET /v1/status`; older releases do not tell all of it. */
const StatusSchema = z.object({
  version: z.string(),
  uptime_s: z.number(),
  mlflow: z.object({
    uri: z.string(),
    last_success_at: z.number().nullable(),
    last_error: z.string().nullable(),
    slow: z.boolean(),
    health: z.object({ ok: z.boolean(), at: z.number(), error: z.string().nullable() }).nullish(),
  }),
  breakers: z.array(
    z.object({
      name: z.string(),
      host: z.string(),
      state: z.enum(BREAKER_STATES),
      failures: z.number(),
      retry_in_s: z.number().nullable(),
      last_failure: z.string().nullable(),
    }),
  ),
  cache: z.object({
    dir: z.string(),
    usable: z.boolean(),
    problem: z.string().nullable(),
    bytes: z.number(),
    max_bytes: z.number().optional(),
    used_bytes: z.number().nullish(),
    free_bytes: z.number().nullish(),
    scrub: z.object({ last_finished_at: z.number(), damaged: z.number() }).nullish(),
  }),
  prewarm: z
    .array(
      z.object({
        model_uri: z.string(),
        next_run_at: z.number().nullable(),
        running: z.boolean(),
        last_run: z.object({ at: z.number(), status: z.string(), code: z.string().nullable() }).nullable(),
      }),
    )
    .default([]),
});

/** What the summary shows of `GET /v1/models`. */
const ModelsSchema = z.object({
  models: z.array(
    z.object({
      refs: z.array(
        z.object({
          model_uri: z.string(),
          version: z.string().nullable(),
          resolved_version: z.string().nullable(),
          path: z.string().nullable(),
          age_s: z.number().nullable(),
          last_outcome: z
            .object({ status: z.string(), warning: z.object({ message: z.string() }).nullable() })
            .nullable(),
        }),
      ),
    }),
  ),
});

type Status = z.infer<typeof StatusSchema>;
type Ref = z.infer<typeof ModelsSchema>['models'][number]['refs'][number];

/** Prints what a running sidecar has and how MLflow is. */
export async function status(sidecar: Sidecar, asJson: boolean): Promise<ExitCode> {
  const [stated, models] = await Promise.all(
    ['/v1/status', '/v1/models'].map(path => askJson(sidecar, path)),
  );
  const text = asJson
    ? JSON.stringify({ status: stated, models }, null, 2)
    : summary(sidecar, understood(StatusSchema, stated), understood(ModelsSchema, models));
  process.stdout.write(`${text}\n`);
  return 0;
}

async function askJson(sidecar: Sidecar, path: string): Promise<unknown> {
  const answer: Answer = await ask(sidecar, {
    method: 'GET',
    path,
    accept: 'application/json',
    timeoutMs: TIMEOUT_MS,
  });
  const body = answer.status === 200 ? parsed(answer.text) : null;
  if (body === null) throw new CommandFailure(`${sidecar.url} ${problemOf(answer)}`);
  return body;
}

function understood<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw new CommandFailure('the sidecar’s answer is of another release: try --json.');
}

function summary(
  { url }: Sidecar,
  { version, uptime_s, mlflow, breakers, cache, prewarm }: Status,
  models: z.infer<typeof ModelsSchema>,
): string {
  const refs = models.models.flatMap(model => model.refs);
  return [
    `mlflow-sidecar ${version} at ${url}, up for ${ago(uptime_s)}`,
    `MLflow: ${mlflow.uri}: ${healthOf(mlflow)}`,
    ...breakers.filter(({ state }) => state !== 'closed').map(breakerLine),
    `Cache: ${cache.dir}: ${[...stateOf(cache), ...scrubOf(cache)].join('; ')}`,
    refs.length === 0 ? 'Models: none cached' : 'Models:',
    ...refs.map(ref => `  ${refLine(ref)}`),
    ...(prewarm.length === 0 ? [] : ['Pre-warmed:']),
    ...prewarm.map(model => `  ${prewarmLine(model)}`),
  ]
    .map(oneLine)
    .join('\n');
}

function healthOf({ last_success_at: success, last_error: error, slow, health }: Status['mlflow']): string {
  const seen = success === null ? 'has not answered yet' : `answered ${since(success)}`;
  // It is asked beside a question only.
  const said =
    health == null ? [] : [`/health ${since(health.at)}: ${health.ok ? 'ok' : (health.error ?? 'not ok')}`];
  const failed = error === null ? [] : [`last error: ${error}`];
  return [seen, ...(slow ? ['slow lately'] : []), ...said, ...failed].join('; ');
}

function stateOf(cache: Status['cache']): readonly string[] {
  const { usable, problem, bytes, max_bytes: max, used_bytes: used, free_bytes: free } = cache;
  // It is counted before the first download, not at the start.
  const held = used == null ? 'may hold' : `holds ${formatBytes(used)} of`;
  return [
    usable ? `${formatBytes(bytes)} published` : `does not work: ${problem ?? ''}`,
    ...(max === undefined ? [] : [`${held} ${formatBytes(max)}`]),
    ...(free == null ? [] : [`${formatBytes(free)} free on its disk`]),
  ];
}

function scrubOf({ scrub }: Status['cache']): readonly string[] {
  if (scrub === undefined) return [];
  if (scrub === null) return ['not verified yet'];
  const { last_finished_at: at, damaged } = scrub;
  return [`verified ${since(at)}, damaged: ${damaged}`];
}

function breakerLine({
  name,
  host,
  state,
  failures,
  retry_in_s,
  last_failure,
}: Status['breakers'][number]): string {
  const next =
    retry_in_s === null
      ? `is ${state}: the next request is a trial`
      : `is ${state}: left alone, the next trial in ${ago(Math.ceil(retry_in_s))}`;
  const last = last_failure === null ? '' : `; last failure: ${last_failure}`;
  return `Breaker: ${name} ${host} ${next}; ${failures} failures in a row${last}`;
}

function refLine({ model_uri, version, resolved_version, path, age_s, last_outcome }: Ref): string {
  const given = path === null ? 'nothing to give' : `version ${version ?? '?'} -> ${path}`;
  const newer =
    resolved_version !== null && resolved_version !== version
      ? [`version ${resolved_version} is wanted`]
      : [];
  const age = age_s === null ? [] : [`confirmed ${ago(age_s)} ago`];
  const last = last_outcome === null ? [] : [`last ${last_outcome.status}`];
  const why = last_outcome?.warning == null ? [] : [last_outcome.warning.message];
  return `${model_uri}: ${[given, ...newer, ...age, ...last, ...why].join('; ')}`;
}

function prewarmLine({
  model_uri,
  next_run_at: next,
  running,
  last_run: last,
}: Status['prewarm'][number]): string {
  const code = last?.code == null ? '' : ` (${last.code})`;
  return `${model_uri}: ${[
    last === null ? 'not yet' : `${last.status}${code} ${since(last.at)}`,
    ...(running ? ['under way'] : []),
    ...(next === null ? [] : [`next in ${ago(next - Date.now() / 1_000)}`]),
  ].join('; ')}`;
}

/** @param at seconds since 1970 */
function since(at: number): string {
  return `${ago(Date.now() / 1_000 - at)} ago`;
}

function ago(seconds: number): string {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`;
}
