import { z } from 'zod';
import { type ModelUri, parseModelUri } from '../domain/model-uri.ts';
import type { HttpSettings } from './deps.ts';

/** More in one call could not share one deadline sensibly, and 64 KiB hold hardly more. */
const MAX_URIS = 100;
/** MLflow's own limit for an alias. */
const MAX_REF_LENGTH = 255;

const modelUri = z.string('must be a model URI').transform((text, context): ModelUri => {
  try {
    return parseModelUri(text);
  } catch (error) {
    context.issues.push({
      code: 'custom',
      message: error instanceof Error ? error.message : 'does not parse',
      input: text,
    });
    return z.NEVER;
  }
});

type SettingsOfCalls = Pick<
  HttpSettings,
  'reloadDeadlineS' | 'reloadDeadlineMaxS' | 'refreshWaitS' | 'maxStaleS'
>;

function callFields(settings: SettingsOfCalls) {
  const { reloadDeadlineS, reloadDeadlineMaxS, refreshWaitS, maxStaleS } = settings;
  return {
    deadline_s: seconds(0.1, reloadDeadlineMaxS)
      .optional()
      .describe(
        `seconds for the whole call, from its first byte; ${reloadDeadlineS} unless given, and for an asynchronous one ${reloadDeadlineMaxS}`,
      ),
    refresh_wait_s: seconds(0)
      .default(refreshWaitS)
      .describe(
        'seconds that MLflow may take to say which version is wanted, where a usable snapshot exists',
      ),
    max_stale_s: seconds(0)
      .default(maxStaleS)
      .describe('seconds since its last confirmation after which a cached version is not given'),
    mode: z
      .enum(['sync', 'async'], 'must be sync or async')
      .default('sync')
      .describe('async: answer 202 at once, with a job; so does "Prefer: respond-async"'),
    async: flag().describe('the same as mode=async'),
    on_failure: z
      .enum(['warn', 'fail'], 'must be warn or fail')
      .default('warn')
      .describe('warn: succeed with a warning; fail: an HTTP error. A job always ends with 200'),
    force: flag().describe('download and verify again even if the version is cached'),
  };
}

function seconds(min: number, max?: number) {
  const words = `must be a number of seconds, ${max === undefined ? `at least ${min}` : `from ${min} to ${max}`}`;
  const atLeast = z.number(words).min(min, words);
  return max === undefined ? atLeast : atLeast.max(max, words);
}

function flag() {
  return z.boolean('must be true or false').default(false);
}

/** What `POST /v1/reload` takes. */
export function reloadSchema(settings: SettingsOfCalls) {
  const list = `must be a list of 1 to ${MAX_URIS} model URIs`;
  return z
    .strictObject({
      model_uri: modelUri.optional().describe('the model to reload; the answer is one outcome'),
      model_uris: z
        .array(modelUri, list)
        .min(1, list)
        .max(MAX_URIS, list)
        .optional()
        .describe(
          'the models to reload; the answer is a list. In forms and queries repeated, or separated by commas',
        ),
      ...callFields(settings),
    })
    .meta({ id: 'Reload' });
}

/** What `POST /v1/models/{name}/reload` takes. */
export function modelReloadSchema(settings: SettingsOfCalls) {
  return z
    .strictObject({
      stage: ref('stage', 'must be a stage, such as Production')
        .optional()
        .describe('for example Production, in any case'),
      alias: ref('alias', 'must be an alias, such as champion').optional().describe('for example champion'),
      version: z
        .union([z.string(), z.int().positive()], 'must be a version, such as 3')
        .transform(String)
        .pipe(ref('version', 'must be a version, such as 3'))
        .optional()
        .describe('for example 3; or latest'),
      ...callFields(settings),
    })
    .meta({ id: 'ModelReload' });
}

type RefKind = 'stage' | 'alias' | 'version';

function ref(kind: RefKind, words: string) {
  return z
    .string(words)
    .max(MAX_REF_LENGTH, words)
    .refine(text => isRef(kind, text), words);
}

/** The URI of a model's stage, alias or version. */
export function uriOf(name: string, kind: RefKind, text: string): ModelUri {
  return parseModelUri(`models:/${name}${kind === 'alias' ? '@' : '/'}${text}`);
}

/** Whether the text, put into a URI, is still read as what it was given as: `a/b` as an alias would name a stage. */
function isRef(kind: RefKind, text: string): boolean {
  try {
    const uri = uriOf('model', kind, text);
    const isKind = uri.kind === kind || (uri.kind === 'latest' && kind !== 'alias');
    return isKind && uri.name === 'model';
  } catch {
    return false;
  }
}
