import { type Request, type Response, raw } from 'express';
import { SidecarError } from '../domain/errors.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { type Fault, FaultyRequest } from './faults.ts';

/** The fields of a request's body: parsed values of JSON, or the texts of a form, each as often as it was given. */
export type Body =
  | { readonly kind: 'json'; readonly values: ReadonlyMap<string, unknown> }
  | { readonly kind: 'form'; readonly texts: ReadonlyMap<string, readonly string[]> }
  | { readonly kind: 'faulty'; readonly fault: Fault };

const MAX_BYTES = 64 * 1024;
/** A search of MLflow's may name ten thousand experiments. */
const MAX_LONG_BYTES = 1024 * 1024;
/** For the whole body of at most so many bytes: what ends a client that trickles. */
export const BODY_LIMIT_S = 30;
const JSON_TYPE = /^(application\/json|[\w.-]+\/[\w.-]+\+json)$/;
/** What clients say of a text that they were given as it is: curl, requests and aiohttp, in this order. */
const ANY_TEXT = ['application/x-www-form-urlencoded', '', 'text/plain', 'application/octet-stream'];
const HINT = 'Send application/json or application/x-www-form-urlencoded, in UTF-8 and uncompressed.';

// Of any type, so that an empty body of any type is fine. Never inflated: nobody compresses 64 KiB, but bombs are.
const reader = (limit: number) => raw({ type: () => true, limit, inflate: false });
const readUsual = reader(MAX_BYTES);
const readLong = reader(MAX_LONG_BYTES);

/**
 * Reads the body to its end.
 * @param isLong up to 1 MiB instead of 64 KiB
 * @throws SidecarError `too_large`, `unsupported_media_type`, or `invalid_request` where it breaks off or takes longer than 30 s
 */
export async function readBody(req: Request<object>, res: Response, isLong = false): Promise<Body> {
  const [read, maxBytes] = isLong ? [readLong, MAX_LONG_BYTES] : [readUsual, MAX_BYTES];
  const reading = new Promise<void>((resolve, reject) => {
    read(req, res, error => (error === undefined ? resolve() : reject(bodyError(error, maxBytes))));
  });
  if ((await within(BODY_LIMIT_S * 1_000, reading)) === TOO_LATE)
    throw new SidecarError('invalid_request', 'The request did not arrive in time.');
  const bytes: unknown = req.body;
  if (!Buffer.isBuffer(bytes) || bytes.length === 0) return formOf('');
  return parseBody(bytes, req.get('content-type') ?? '');
}

function bodyError(error: unknown, maxBytes: number): unknown {
  const type = error instanceof Error && 'type' in error ? error.type : undefined;
  if (type === 'entity.too.large') {
    return new SidecarError('too_large', `The body is larger than ${maxBytes} bytes.`, {
      hint: 'Name fewer models in one call.',
    });
  }
  if (type === 'encoding.unsupported')
    return unsupported('The Content-Encoding of the body is not supported.');
  if (type === 'request.aborted' || type === 'request.size.invalid') {
    return new FaultyRequest([{ field: 'body', message: 'ended before its Content-Length' }]);
  }
  return error;
}

function parseBody(bytes: Buffer, contentType: string): Body {
  const type = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const isJson = JSON_TYPE.test(type);
  if (!isJson && !ANY_TEXT.includes(type))
    throw unsupported(`A body of type ${JSON.stringify(type.slice(0, 100))} is not supported.`);
  const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(contentType)?.[1]?.toLowerCase();
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8') {
    throw unsupported(`A body in ${JSON.stringify(charset)} is not supported.`);
  }
  const text = decode(bytes);
  if (text === null) return faulty('is not UTF-8');
  // Also where a client says JSON of the form that it makes of a dictionary; without a `=` it is a fault of the JSON.
  const isForm = /^\w+=/.test(text) || (!isJson && !/^\s*[{[]/.test(text));
  return isForm ? formOf(text) : jsonOf(text);
}

function decode(bytes: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function jsonOf(text: string): Body {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return faulty(`is not JSON: ${error instanceof Error ? error.message : 'it does not parse'}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return faulty('must be a JSON object');
  // A map, since an own `__proto__` (which JSON.parse makes) would vanish in a copied object and go unnamed.
  return { kind: 'json', values: new Map(Object.entries(value)) };
}

function formOf(text: string): Body {
  return { kind: 'form', texts: textsOf(text) };
}

/** The fields of a form or a query string. */
export function textsOf(encoded: string): ReadonlyMap<string, readonly string[]> {
  const texts = new Map<string, string[]>();
  for (const [field, text] of new URLSearchParams(encoded)) {
    const known = texts.get(field);
    if (known) known.push(text);
    else texts.set(field, [text]);
  }
  return texts;
}

function faulty(message: string): Body {
  return { kind: 'faulty', fault: { field: 'body', message } };
}

function unsupported(message: string): SidecarError {
  return new SidecarError('unsupported_media_type', message, { hint: HINT });
}
