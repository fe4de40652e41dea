import type { Request } from 'express';
import { z } from 'zod';
import { type Body, textsOf } from './body.ts';
import { type Fault, FaultyRequest, shown } from './faults.ts';

export interface Given {
  readonly body: Body;
  readonly query: ReadonlyMap<string, readonly string[]>;
}

/** The fields of a request's query string. */
export function queryOf({ url }: Request<object>): Given['query'] {
  const at = url.indexOf('?');
  return textsOf(at < 0 ? '' : url.slice(at));
}

interface Rules<Schema extends z.ZodObject> {
  readonly schema: Schema;
  /** Fields of which at most one may be given. */
  readonly exclusive: readonly string[];
}

/**
 * The fields of body and query, checked by the schema.
 * @param foreign faults found elsewhere in the request, to be named along with those found here
 * @throws FaultyRequest with every fault
 */
export function parseFields<Schema extends z.ZodObject>(
  { schema, exclusive }: Rules<Schema>,
  given: Given,
  foreign: readonly Fault[] = [],
): z.output<Schema> {
  const names = Object.keys(schema.shape);
  const faults = [...foreign, ...wholeFaults(given, names, exclusive)];
  const parsed = schema.safeParse(knownFields(schema, given));
  if (!parsed.success) faults.push(...parsed.error.issues.map(faultOf));
  if (faults.length > 0 || !parsed.success)
    throw new FaultyRequest(faults, `The fields are: ${names.join(', ')}.`);
  return parsed.data;
}

function wholeFaults(
  { body, query }: Given,
  names: readonly string[],
  exclusive: readonly string[],
): Fault[] {
  const faults: Fault[] = body.kind === 'faulty' ? [body.fault] : [];
  const inBody = new Set(bodyFields(body));
  for (const field of new Set([...inBody, ...query.keys()])) {
    if (!names.includes(field)) faults.push({ field: shown(field), message: 'unknown field' });
    else if (inBody.has(field) && query.has(field)) {
      faults.push({ field, message: 'is given both in the body and in the query' });
    }
  }
  const together = exclusive.filter(field => inBody.has(field) || query.has(field));
  if (together.length > 1) {
    faults.push({ field: together.join(', '), message: `only one of ${exclusive.join(', ')} may be given` });
  }
  return faults;
}

function bodyFields(body: Body): Iterable<string> {
  if (body.kind === 'faulty') return [];
  return (body.kind === 'json' ? body.values : body.texts).keys();
}

function knownFields(schema: z.ZodObject, { body, query }: Given): Record<string, unknown> {
  const known: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(schema.shape)) {
    const texts = query.get(name) ?? (body.kind === 'form' ? body.texts.get(name) : undefined);
    if (texts !== undefined) known[name] = fromTexts(innermost(type), texts);
    else if (body.kind === 'json' && body.values.has(name)) known[name] = body.values.get(name);
  }
  return known;
}

/** Python writes them with a capital. */
const BOOLEANS = new Map([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
]);

/** The value that texts of a form or query stand for; what is not one is left as it is, for the schema to refuse. */
function fromTexts(type: z.core.$ZodType, texts: readonly string[]): unknown {
  if (type instanceof z.ZodArray) return texts.flatMap(text => text.split(',')).map(text => text.trim());
  const [text = '', ...more] = texts;
  if (more.length > 0) return texts;
  if (type instanceof z.ZodNumber) return /^-?\d{1,15}(\.\d{1,15})?$/.test(text) ? Number(text) : text;
  if (type instanceof z.ZodBoolean) return BOOLEANS.get(text) ?? text;
  return text;
}

function innermost(type: z.core.$ZodType): z.core.$ZodType {
  return type instanceof z.ZodOptional || type instanceof z.ZodDefault ? innermost(type.unwrap()) : type;
}

function faultOf(issue: z.core.$ZodIssue): Fault {
  return { field: issue.path.map(String).join('.'), message: issue.message };
}
