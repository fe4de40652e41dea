import { z } from 'zod';
import { describeOptions } from '../../src/config/describe.ts';
import { ERROR_CODES, HTTP_STATUS_BY_CODE } from '../../src/domain/errors.ts';
import { EventBus } from '../../src/domain/events.ts';
import { OutcomeSchema } from '../../src/domain/outcome.ts';
import { mlflowStatusOf } from '../../src/http/mlflow/errors.ts';
import { createOpenApi } from '../../src/http/openapi.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { SETTINGS } from '../http/support.ts';
import { IDLE } from '../telemetry/support.ts';

const TypeSchema = z.looseObject({
  type: z.union([z.string(), z.array(z.string())]).optional(),
  enum: z.array(z.string()).optional(),
  anyOf: z
    .array(z.looseObject({ type: z.string().optional(), enum: z.array(z.string()).optional() }))
    .optional(),
  default: z.union([z.string(), z.number(), z.boolean()]).optional(),
  description: z.string().default(''),
});
const OperationSchema = z.looseObject({
  summary: z.string(),
  responses: z.record(z.string(), z.unknown()),
});
const OpenApiSchema = z.looseObject({
  paths: z.record(z.string(), z.record(z.string(), OperationSchema)),
  components: z.looseObject({
    schemas: z.record(
      z.string(),
      z.looseObject({ properties: z.record(z.string(), TypeSchema).default({}) }),
    ),
  }),
});

/** As a sidecar with no options but the required one gives it. */
const openApi = OpenApiSchema.parse(createOpenApi({ settings: SETTINGS, version: '0' }));

/** Every route: its method, its path with parameters in braces, and what it is for. */
export const ROUTES = Object.entries(openApi.paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, { summary, responses }]) => ({
    method: method.toUpperCase(),
    path,
    summary,
    statuses: Object.keys(responses),
  })),
);

/** Every field of a request or an answer, and every parameter. */
export const FIELDS = namesIn(openApi);

/** The keys of all `properties`, and the names of all `parameters`, however deep. */
function namesIn(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => [
    ...(key === 'properties' ? Object.keys(Object(inner)) : []),
    ...(key === 'name' && typeof inner === 'string' ? [inner] : []),
    ...namesIn(inner),
  ]);
}

/** Only looked at for what it describes. */
export const METRICS = metricsOf();

function metricsOf() {
  const metrics = createMetrics(new EventBus(), IDLE);
  metrics.close();
  return metrics.descriptions;
}

/** The tables that the code gives, by the name of the marks between which they stand. */
export const TABLES: Readonly<Record<string, string>> = {
  options: describeOptions(),
  metrics: table(
    ['metric', 'type', 'labels', 'meaning'],
    METRICS.map(({ name, type, labels, help }) => [code(name), type, labels.map(code).join(', '), help]),
  ),
  routes: table(
    ['route', 'what it is for', 'answers'],
    ROUTES.map(({ method, path, summary, statuses }) => [
      code(`${method} ${path}`),
      summary,
      statuses.toSorted().join(', '),
    ]),
  ),
  fields: table(['field', 'type', 'default', 'meaning'], fields()),
  outcome: table(
    ['field', 'type', 'meaning'],
    Object.entries(OutcomeSchema.shape).map(([name, schema]) => {
      const type = TypeSchema.parse(z.toJSONSchema(schema));
      return [code(name), typeOf(type), type.description];
    }),
  ),
  codes: table(
    ['code', 'HTTP status of an error', 'of an error to MLflow’s clients'],
    ERROR_CODES.map(name => [code(name), `${HTTP_STATUS_BY_CODE[name]}`, `${mlflowStatusOf(name)}`]),
  ),
};

function fields(): string[][] {
  const { Reload, ModelReload } = openApi.components.schemas;
  const [any = {}, one = {}] = [Reload?.properties, ModelReload?.properties];
  const all = { ...any, ...one };
  const routeOf = (name: string) => {
    if (!(name in one)) return '`/v1/reload` only: ';
    return name in any ? '' : '`/v1/models/{name}/reload` only: ';
  };
  return Object.entries(all).map(([name, type]) => {
    const fallback = type.default === undefined ? '' : code(String(type.default));
    return [code(name), typeOf(type), fallback, `${routeOf(name)}${type.description}`];
  });
}

function typeOf({ type, enum: values, anyOf }: z.infer<typeof TypeSchema>): string {
  if (values !== undefined) return values.map(code).join(', ');
  const types = type ?? (anyOf ?? []).map(one => one.enum?.map(code).join(', ') ?? one.type ?? 'any');
  return [types].flat().join(' or ');
}

function code(text: string): string {
  return `\`${text}\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows.map(row => row.map(escaped))];
  return lines
    .map((cells, at) => (at === 1 ? `|${cells.join('|')}|` : `| ${cells.join(' | ')} |`))
    .join('\n');
}

function escaped(cell: string): string {
  return cell.replaceAll('|', '\\|').replaceAll('\n', ' ');
}
