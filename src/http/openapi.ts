import { z } from 'zod';
import {
  createDocument,
  type ZodOpenApiContentObject,
  type ZodOpenApiOperationObject,
  type ZodOpenApiResponseObject,
  type ZodOpenApiResponsesObject,
} from 'zod-openapi';
import type { HttpDeps } from './deps.ts';
import { jobSchema } from './jobs.ts';
import { modelReloadSchema, reloadSchema } from './reload-schema.ts';
import * as schemas from './schemas.ts';

const name = z.object({ name: z.string().describe('the registered model’s name, percent-encoded') });
const jobId = z.object({ id: z.string().describe('the job_id') });
const status = (word: string) => z.object({ status: z.literal(word) });
const readiness = z.union([
  status('ready'),
  status('degraded').extend({ detail: z.string().describe('why the cache can be read but not written') }),
]);

const outcomes = z.union([schemas.AnswerSchema, schemas.ListSchema]);
const failed = z.union([schemas.ProblemSchema, schemas.FailedOutcomeSchema, schemas.FailedListSchema]);
const headers = z.object({ 'X-Request-Id': z.string() });
const retryHeaders = headers.extend({ 'Retry-After': z.string().describe('seconds, at least 1') });
const REPORT = { 'text/plain': { schema: z.string().describe('the human report') } };

const GUARDED = refusals({
  401: 'The token is missing or wrong.',
  403: 'The Host or Origin is not allowed.',
});
const READ = { ...GUARDED, ...refusals({ 500: 'Nobody foresaw it.' }) };

const NO_JOB = {
  ...refusals({ 404: 'There is no such job.' }),
  503: {
    ...failure('The disk does not say whether there is.', schemas.ProblemSchema),
    headers: retryHeaders,
  },
};

const RELOADED: ZodOpenApiResponsesObject = {
  ...GUARDED,
  200: answer('What was loaded, or with on_failure=warn why not.', {
    'application/json': { schema: outcomes },
    ...REPORT,
  }),
  ...refusals({
    400: 'The request is faulty; every fault is named.',
    403: 'The Host, the Origin or a model URI is not allowed.',
    413: 'The body is larger than 64 KiB.',
    415: 'The body’s type, charset or encoding is not supported.',
  }),
  202: answer('It goes on in the background (mode=async).', {
    'application/json': { schema: schemas.JobSchema },
    ...REPORT,
  }),
  404: failure('MLflow has no such model, stage, alias or version (on_failure=fail).'),
  500: failure('Nobody foresaw it.'),
  502: failure('MLflow’s answer or the artifacts are no good (on_failure=fail).'),
  503: {
    ...failure('MLflow cannot be reached, or the cached version is too old (on_failure=fail).'),
    headers: retryHeaders,
  },
  504: failure('MLflow did not answer in time (on_failure=fail).'),
  507: failure('The cache’s disk is full (on_failure=fail).'),
};

/** The OpenAPI 3.1 document, made from the schemas that check requests. */
export function createOpenApi({ settings, version }: Pick<HttpDeps, 'settings' | 'version'>) {
  return createDocument({
    openapi: '3.1.0',
    info: { title: 'mlflow-sidecar', version },
    security: [{ bearer: [] }, { basic: [] }, {}],
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        basic: { type: 'http', scheme: 'basic' },
      },
    },
    paths: {
      '/v1/reload': { post: reload('Reload models', reloadSchema(settings)) },
      '/v1/models/{name}/reload': { post: reload('Reload one model', modelReloadSchema(settings), name) },
      '/v1/models': { get: read('What is cached', schemas.ModelsSchema) },
      '/v1/models/{name}': {
        get: {
          ...read('What is cached of one model', schemas.ModelSchema, {
            ...READ,
            ...refusals({ 400: 'The name is not a model’s.', 404: 'Nothing of it is cached.' }),
          }),
          requestParams: { path: name },
        },
      },
      '/v1/jobs/{id}': {
        get: {
          ...read('An asynchronous reload', schemas.JobSchema, {
            ...READ,
            ...NO_JOB,
            ...refusals({ 400: 'wait_s is not one.' }),
          }),
          requestParams: { path: jobId, query: jobSchema },
        },
        delete: {
          summary: 'Forgets an asynchronous reload, and ends its work where nobody else wants it',
          requestParams: { path: jobId },
          responses: { ...READ, ...NO_JOB, 204: { description: 'It is forgotten.', headers } },
        },
      },
      '/v1/jobs/{id}/result': {
        get: {
          ...read(
            'Its end, for sensors; of an unknown job too',
            z.union([outcomes, schemas.UnknownJobSchema]),
            {
              ...READ,
              ...refusals({ 404: 'It is still running.' }),
            },
          ),
          requestParams: { path: jobId },
        },
      },
      '/v1/status': { get: read('MLflow’s health and the cache', schemas.StatusSchema) },
      '/metrics': {
        get: {
          summary: 'Prometheus’ metrics',
          responses: {
            ...READ,
            200: answer('In Prometheus’ text format.', {
              'text/plain': { schema: z.string() },
            }),
          },
        },
      },
      '/healthz': { get: { ...read('Whether the process answers', status('ok'), {}), security: [] } },
      '/readyz': {
        get: {
          ...read('Whether callers may come', readiness, {
            503: {
              ...failure('Not ready; the detail says why.', schemas.ProblemSchema),
              headers: retryHeaders,
            },
          }),
          security: [],
        },
      },
      '/openapi.json': { get: read('This document', z.looseObject({ openapi: z.string() }), GUARDED) },
    },
  });
}

function reload(summary: string, schema: z.ZodObject, path?: z.ZodObject): ZodOpenApiOperationObject {
  const content = { 'application/json': { schema }, 'application/x-www-form-urlencoded': { schema } };
  return {
    summary,
    requestParams: path === undefined ? { query: schema } : { path, query: schema },
    requestBody: { required: false, content },
    responses: RELOADED,
  };
}

function read(
  summary: string,
  schema: z.ZodType,
  others: ZodOpenApiResponsesObject = READ,
): ZodOpenApiOperationObject {
  return {
    summary,
    responses: { ...others, 200: answer('As described.', { 'application/json': { schema } }) },
  };
}

function refusals(described: Readonly<Record<number, string>>): ZodOpenApiResponsesObject {
  const pairs = Object.entries(described).map(([code, words]) => [
    code,
    failure(words, schemas.ProblemSchema),
  ]);
  return Object.fromEntries(pairs);
}

function failure(description: string, schema: z.ZodType = failed): ZodOpenApiResponseObject {
  return answer(description, { 'application/problem+json': { schema }, ...REPORT });
}

function answer(description: string, content: ZodOpenApiContentObject): ZodOpenApiResponseObject {
  return { description, content, headers };
}
