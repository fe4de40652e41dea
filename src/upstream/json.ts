import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import { connectionError, isAboutTheRequest, Refusal, singleHeader, statusError } from './failure.ts';
import type { MlflowResponse } from './mlflow-client.ts';
import type { UpstreamResponse } from './transport.ts';

/** An answer's status and body, parsed as JSON but not yet as anything. */
export interface JsonAnswer {
  readonly status: number;
  readonly body: unknown;
  /** The body as it came, without credentials. */
  readonly text: string;
  /** What MLflow says in an error, without credentials. */
  readonly message: string | null;
}

const MAX_MESSAGE_LENGTH = 300;

export interface SizeLimit {
  readonly maxBytes: number;
  readonly code: ErrorCode;
}

/**
 * Reads an answer that must be MLflow's JSON: a success, or an error in MLflow's own shape.
 * @param limit more than `maxBytes` is refused unread, with `code`
 * @throws SidecarError `mlflow_error`, `access_denied`, `mlflow_unreachable` or `mlflow_timeout`; a `Refusal` where the
 * answer is MLflow's word
 */
export async function readJson(
  what: string,
  response: MlflowResponse,
  limit: SizeLimit,
  signal: AbortSignal,
): Promise<JsonAnswer> {
  const status = response.statusCode;
  const encoding = singleHeader(response.headers['content-encoding']) ?? 'identity';
  if (encoding !== 'identity') {
    response.body.close();
    throw new SidecarError(
      'mlflow_error',
      `${what}: the answer is compressed (${encoding}), which was not asked for.`,
    );
  }
  const text = await readText(what, response, limit, signal);
  const body = parse(text);
  const isJson = body !== undefined && isMlflowAnswer(status, body);
  if (isJson && status >= 200 && status < 300) return { status, body, text, message: null };
  const safe = response.redact(text);
  const message = response.redact(messageOf(body) ?? '').slice(0, MAX_MESSAGE_LENGTH) || null;
  if (isJson && isDefinite(status)) return { status, body, text: safe, message };
  const error = isJson ? statusError(what, response, message) : notMlflow(what, response, safe);
  if (!isAboutTheRequest(status) || (!isJson && error.code !== 'access_denied')) throw error;
  const contentType = singleHeader(response.headers['content-type']) ?? 'text/plain';
  throw new Refusal(error, { status, text: safe, contentType });
}

/** A 400 or 404 in MLflow's own shape is its definite word; what it means depends on the question. */
function isDefinite(status: number): boolean {
  return status === 400 || status === 404;
}

function isMlflowAnswer(status: number, body: unknown): boolean {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return false;
  return (status >= 200 && status < 300) || 'error_code' in body;
}

function notMlflow(what: string, response: UpstreamResponse, text: string): SidecarError {
  const { statusCode: status } = response;
  const start = text.slice(0, 200).replace(/\s+/g, ' ').trim();
  if (status < 200 || (status >= 300 && status !== 404 && status !== 400)) {
    return statusError(what, response, start === '' ? null : start);
  }
  return new SidecarError(
    'mlflow_error',
    `${what}: HTTP ${status}, but the answer is not MLflow's JSON: "${start}".`,
    {
      hint: 'Check that MLFLOW_TRACKING_URI is the address of MLflow itself, with its path prefix if it has one.',
      // A 400 or 404 is about the question, whoever on the way says it.
      serverFault: status < 400,
    },
  );
}

function messageOf(body: unknown): string | null {
  const known = typeof body === 'object' && body !== null && 'message' in body;
  return known && typeof body.message === 'string' ? body.message : null;
}

async function readText(
  what: string,
  response: UpstreamResponse,
  { maxBytes, code }: SizeLimit,
  signal: AbortSignal,
): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body) {
      const bytes = Buffer.from(chunk);
      size += bytes.byteLength;
      if (size > maxBytes) {
        throw new SidecarError(code, `${what}: the answer is larger than ${maxBytes} bytes.`);
      }
      chunks.push(bytes);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(what, error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
