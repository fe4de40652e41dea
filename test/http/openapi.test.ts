import { expect, test } from 'vitest';
import { z } from 'zod';
import type { SidecarError } from '../../src/domain/errors.ts';
import { CATALOG, call, closedJobs, failure, form, members, type Reply, sidecar, uris } from './support.ts';

const SchemaShape = z.record(z.string(), z.unknown());
const ContentShape = z.record(z.string(), z.object({ schema: SchemaShape }));
const OperationShape = z.looseObject({
  summary: z.string(),
  parameters: z
    .array(z.looseObject({ name: z.string(), in: z.enum(['path', 'query']), schema: SchemaShape }))
    .default([]),
  requestBody: z.object({ required: z.literal(false), content: ContentShape }).optional(),
  responses: z.record(
    z.string().regex(/^[2-5]\d\d$/),
    z.object({
      description: z.string().min(1),
      headers: SchemaShape,
      content: ContentShape.default({}),
    }),
  ),
});
const DocumentShape = z.object({
  openapi: z.literal('3.1.0'),
  info: z.object({ title: z.literal('mlflow-sidecar'), version: z.string() }),
  security: z.array(SchemaShape),
  paths: z.record(
    z.string().startsWith('/'),
    z.strictObject({
      get: OperationShape.optional(),
      post: OperationShape.optional(),
      delete: OperationShape.optional(),
    }),
  ),
  components: z.object({ schemas: z.record(z.string(), SchemaShape), securitySchemes: SchemaShape }),
});

async function document() {
  const { url } = await sidecar();
  return DocumentShape.parse(members(await call(`${url}/openapi.json`)));
}

async function operations() {
  const { paths } = await document();
  return Object.entries(paths).flatMap(([path, byMethod]) =>
    Object.entries(byMethod).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      operation: OperationShape.parse(operation),
    })),
  );
}

test('the document has every route', async () => {
  expect((await operations()).map(({ name }) => name).sort()).toEqual([
    'DELETE /v1/jobs/{id}',
    'GET /healthz',
    'GET /metrics',
    'GET /openapi.json',
    'GET /readyz',
    'GET /v1/jobs/{id}',
    'GET /v1/jobs/{id}/result',
    'GET /v1/models',
    'GET /v1/models/{name}',
    'GET /v1/status',
    'POST /v1/models/{name}/reload',
    'POST /v1/reload',
  ]);
});

test('every parameter of a path is described, and every reference leads somewhere', async () => {
  for (const { name, operation } of await operations()) {
    const inPath = operation.parameters
      .filter(parameter => parameter.in === 'path')
      .map(parameter => parameter.name);
    expect(inPath).toEqual([...name.matchAll(/\{(\w+)\}/g)].map(match => match[1]));
  }
  const whole = await document();
  const references = [...JSON.stringify(whole).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(
    match => match[1],
  );
  expect(references.length).toBeGreaterThan(10);
  expect(Object.keys(whole.components.schemas)).toEqual(expect.arrayContaining(references));
});

test('a reload’s fields have the limits of the settings, in the body and the query, and tell the defaults', async () => {
  const { url } = await sidecar({ settings: { reloadDeadlineS: 30, reloadDeadlineMaxS: 90 } });
  const { paths, components } = DocumentShape.parse(members(await call(`${url}/openapi.json`)));
  const described = expect.stringMatching(/; 30 unless given, and for an asynchronous one 90$/);
  const deadline = { type: 'number', minimum: 0.1, maximum: 90, description: described };
  expect(components.schemas['Reload']).toMatchObject({
    additionalProperties: false,
    properties: {
      deadline_s: deadline,
      model_uris: { type: 'array', maxItems: 100 },
      mode: { enum: ['sync', 'async'] },
    },
  });
  const query = paths['/v1/reload']?.post?.parameters.find(parameter => parameter.name === 'deadline_s');
  expect(query).toMatchObject({ in: 'query', schema: { type: 'number', minimum: 0.1, maximum: 90 } });
});

const URI = 'models:/a/Production';
type Provocation = (route: string) => Promise<Reply>;
const fields = (route: string) => (route.includes('/models/') ? 'stage=Production' : `model_uri=${URI}`);

/** The answer to a reload whose outcome has this code, with `on_failure=fail`. */
function outcomeOf(code: SidecarError['code'], status: 'failed' | 'missing' = 'failed'): Provocation {
  return async route => {
    const { url } = await sidecar({ reload: () => failure(status, code) });
    return form(url + route, `${fields(route)}&on_failure=fail`);
  };
}

const broken = () => {
  throw new Error('broken');
};
const BROKEN_CATALOG = { models: broken, model: broken, registry: broken, breakers: broken, cache: broken };

const reloadOf = (init: RequestInit, query = ''): Provocation => {
  return async route => call((await sidecar()).url + route + query, { method: 'POST', ...init });
};
const readOf = (scripted: Parameters<typeof sidecar>[0] = {}, init: RequestInit = {}): Provocation => {
  return async route => call((await sidecar(scripted)).url + route, init);
};

const GUARDED = {
  401: readOf({ settings: { token: 's3cret' } }),
  403: readOf({}, { headers: { origin: 'http://evil.example' } }),
  500: readOf({ catalog: BROKEN_CATALOG }),
};
const RELOADED: Record<string, Provocation> = {
  200: async route => form((await sidecar()).url + route, fields(route)),
  202: async route => form((await sidecar()).url + route, `${fields(route)}&async=true`),
  400: reloadOf({ body: 'x=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
  401: readOf({ settings: { token: 's3cret' } }, { method: 'POST' }),
  403: async route =>
    form((await sidecar({ settings: { allow: ['models:/other/*'] } })).url + route, fields(route)),
  404: outcomeOf('no_version_in_stage', 'missing'),
  413: reloadOf({ body: 'x'.repeat(65_537) }),
  415: reloadOf({ body: 'x', headers: { 'content-type': 'text/xml' } }),
  500: async route => form((await sidecar({ reload: broken })).url + route, fields(route)),
  502: outcomeOf('artifact_corrupt'),
  503: outcomeOf('mlflow_unreachable'),
  504: outcomeOf('deadline_exceeded'),
  507: outcomeOf('disk_full'),
};

/** What is answered for a job that a sidecar has. */
function ofJob(
  scripted: Parameters<typeof sidecar>[0] = {},
  init: RequestInit = {},
  query = '',
): Provocation {
  return async route => {
    const { url } = await sidecar(scripted);
    const id = String(members(await form(`${url}/v1/reload`, `model_uri=${URI}&async=true`))['job_id']);
    return call(url + route.replace('{id}', id) + query, init);
  };
}
const DELETE = { method: 'DELETE' };
const ANY_ID = '00000000-0000-4000-8000-000000000000';
const silentOf = (init: RequestInit = {}): Provocation => {
  return async route =>
    call((await sidecar({ jobs: closedJobs() })).url + route.replace('{id}', ANY_ID), init);
};
const endless = () => new Promise<never>(() => undefined);
const BROKEN_JOBS = { begin: broken, find: broken, wait: broken, remove: broken };

const PROVOKED: Record<string, Record<string, Provocation>> = {
  'POST /v1/reload': RELOADED,
  'POST /v1/models/{name}/reload': RELOADED,
  'GET /v1/models': { ...GUARDED, 200: readOf() },
  'GET /v1/models/{name}': {
    ...GUARDED,
    200: readOf({ catalog: { ...CATALOG, model: () => ({ name: 'a', refs: [] }) } }),
    400: async () => call(`${(await sidecar()).url}/v1/models/a%2Fb`),
    404: readOf(),
  },
  'GET /v1/jobs/{id}': {
    ...GUARDED,
    200: ofJob(),
    400: ofJob({}, {}, '?wait_s=x'),
    404: readOf(),
    500: readOf({ jobs: BROKEN_JOBS }),
    503: silentOf(),
  },
  'DELETE /v1/jobs/{id}': {
    204: ofJob({}, DELETE),
    401: readOf({ settings: { token: 's3cret' } }, DELETE),
    403: readOf({}, { ...DELETE, headers: { origin: 'http://evil.example' } }),
    404: readOf({}, DELETE),
    500: readOf({ jobs: BROKEN_JOBS }, DELETE),
    503: silentOf(DELETE),
  },
  'GET /v1/jobs/{id}/result': {
    ...GUARDED,
    200: readOf(),
    404: ofJob({ reload: endless }),
    500: readOf({ jobs: BROKEN_JOBS }),
  },
  'GET /v1/status': { ...GUARDED, 200: readOf({ settings: { models: uris(URI) } }) },
  'GET /metrics': { ...GUARDED, 200: readOf(), 500: readOf({ metrics: broken }) },
  'GET /healthz': { 200: readOf() },
  'GET /readyz': { 200: readOf(), 503: readOf({ isReady: () => ({ ready: false, problem: 'no disk' }) }) },
  'GET /openapi.json': { 200: readOf(), 401: GUARDED[401], 403: GUARDED[403] },
};

/** Checks values by a JSON schema of the document. */
function checker(schemas: unknown, schema: unknown): z.ZodType {
  const whole = JSON.stringify({ allOf: [schema], $defs: schemas }).replaceAll(
    '#/components/schemas/',
    '#/$defs/',
  );
  return z.fromJSONSchema(z.record(z.string(), z.json()).parse(JSON.parse(whole)));
}

test('every documented answer exists, and is of the documented type, schema and headers', async () => {
  const { schemas } = (await document()).components;
  for (const { name, operation } of await operations()) {
    const provoked = PROVOKED[name] ?? {};
    expect(Object.keys(operation.responses), name).toEqual(Object.keys(provoked));
    for (const [status, { content, headers }] of Object.entries(operation.responses)) {
      const path = name.replace(/^\w+ /, '').replace('{name}', 'a');
      const reply = await provoked[status]?.(path);
      expect(reply?.status, name).toBe(Number(status));
      const type = reply?.headers.get('content-type')?.replace(/;.*/, '') ?? '';
      const text = reply?.text ?? '';
      for (const header of Object.keys(headers)) expect(reply?.headers.get(header), header).not.toBeNull();
      if (Object.keys(content).length === 0) {
        expect(text, name).toBe('');
        continue;
      }
      const body: unknown = type === 'text/plain' ? text : JSON.parse(text);
      const checked = checker(schemas, content[type]?.schema).safeParse(body);
      expect(checked.error?.issues, `${name} ${status}`).toBeUndefined();
    }
  }
});

test('the check of answers by their schema finds fault where there is one', async () => {
  const { schemas } = (await document()).components;
  const check = checker(schemas, { $ref: '#/components/schemas/Problem' });
  expect(
    check.safeParse({
      type: 'about:blank',
      title: 'x',
      detail: 'x',
      code: 'nonsense',
      hint: null,
      status: 400,
    }).success,
  ).toBe(false);
});
