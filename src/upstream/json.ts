import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { Allowance } from '../policy/allowance.ts';
import { SharedSlices } from '../policy/slices.ts';
import {
  connectionError,
  contentLength,
  isAboutTheRequest,
  Refusal,
  singleHeader,
  statusError,
} from './failure.ts';
import { JsonPicker, Malformed, TooMuch, type Wanted } from './json-picker.ts';
import type { MlflowResponse } from './mlflow-client.ts';
import { PassingAnswer } from './passing-answer.ts';
import type { UpstreamResponse } from './transport.ts';

/** An answer's status and body, parsed as JSON but not yet as anything. */
export interface JsonAnswer {
  readonly status: number;
  /** Of a long one what is wanted of it; of one that passes nothing. */
  readonly body: unknown;
  /** The body as it came, without credentials; null where it is too long to be held. */
  readonly text: string | null;
  /** What it says of itself, as MLflow does in an error, without credentials. */
  readonly message: string | null;
  /** A success that is too long to be held, and is on its way to whoever asked. */
  readonly passing?: PassingAnswer;
}

export interface AnswerLimits {
  /** More is refused, with `code`. */
  readonly maxBytes: number;
  readonly code: ErrorCode;
  /** What is read of a long answer. */
  readonly wanted: Wanted;
  /** A long answer goes on to whoever asked, of whatever length it is. */
  readonly passing?: {
    /** How many may at once: each has a connection for as long as its client takes. */
    readonly places: Allowance;
    readonly isRead: boolean;
  };
}

const MAX_MESSAGE_LENGTH = 300;
/** Parsed in one go: nearly all answers are shorter, and even one of tiny objects takes a millisecond or two. */
const SHORT_BYTES = 16 * 1024;
/** Held as a text, to be kept or given to a client. */
const HELD_BYTES = 256 * 1024;
/** MLflow's own errors are far shorter; of a page that somebody else sends its beginning is shown. */
const ERROR_BYTES = 64 * 1024;

/** All long answers together take no more of a turn than one. */
export const longAnswers = new SharedSlices();

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** What was read of a body. */
interface Held {
  /** Null where it is longer than is held. */
  readonly text: string | null;
  /** Undefined where it is no JSON. */
  readonly body: unknown;
  readonly passing?: PassingAnswer;
}

/**
 * Reads an answer that must be MLflow's JSON: a success, or an error in MLflow's own shape.
 * @throws SidecarError `mlflow_error`, `access_denied`, `mlflow_unreachable`, `mlflow_timeout`, `overloaded`, or the limits' code;
 * a `Refusal` where the answer is MLflow's word
 */
export async function readJson(
  what: string,
  response: MlflowResponse,
  limits: AnswerLimits,
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
  const isSuccess = status >= 200 && status < 300;
  const { text, body, passing } = isSuccess
    ? await readSuccess(what, response, limits, signal)
    : await readError(what, response, signal);
  if (passing !== undefined) return { status, body: undefined, text: null, message: null, passing };
  const isJson = body !== undefined && isMlflowAnswer(status, body);
  if (isJson && isSuccess) return { status, body, text, message: shown(body, response) };
  const safe = response.redact(text ?? '');
  const message = shown(body, response);
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
      permanent: isAboutTheRequest(status),
    },
  );
}

function shown(body: unknown, { redact }: MlflowResponse): string | null {
  return redact(messageOf(body) ?? '').slice(0, MAX_MESSAGE_LENGTH) || null;
}

function messageOf(body: unknown): string | null {
  const known = typeof body === 'object' && body !== null && 'message' in body;
  return known && typeof body.message === 'string' ? body.message : null;
}

/** The beginning of an error, which is all of MLflow's own. */
async function readError(what: string, response: MlflowResponse, signal: AbortSignal): Promise<Held> {
  const pieces: Buffer[] = [];
  let size = 0;
  try {
    for await (const piece of response.body) {
      pieces.push(Buffer.from(piece));
      size += piece.byteLength;
      if (size > ERROR_BYTES) break;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(what, error);
  }
  const bytes = Buffer.concat(pieces).subarray(0, ERROR_BYTES);
  return { text: bytes.toString('utf8'), body: size > ERROR_BYTES ? undefined : parse(bytes) };
}

/** A success: parsed in one go where it is short, else read as it comes. */
async function readSuccess(
  what: string,
  response: MlflowResponse,
  limits: AnswerLimits,
  signal: AbortSignal,
): Promise<Held> {
  const pieces = response.body[Symbol.asyncIterator]();
  const held: Buffer[] = [];
  let size = 0;
  let picker: JsonPicker | null = null;
  let isPassedOn = false;
  let refusal: TooMuch | null = null;
  // What passes on may be more than is read, where it is long enough to pass.
  const refuse = (error: unknown) => {
    if (!(error instanceof TooMuch) || limits.passing === undefined) throw error;
    refusal = error;
  };
  try {
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
      if (size <= HELD_BYTES) held.push(Buffer.from(next.value));
      size += next.value.byteLength;
      if (size > limits.maxBytes) throw new TooMuch(`is larger than ${limits.maxBytes} bytes`);
      if (picker === null && size > SHORT_BYTES) {
        picker = new JsonPicker(limits.wanted, longAnswers);
        await picker.write(Buffer.concat(held)).catch(refuse);
      } else if (refusal === null) await picker?.write(next.value).catch(refuse);
      if (size <= HELD_BYTES || limits.passing === undefined) continue;
      const begun = { pieces, held, picker: refusal === null ? picker : null };
      const passing = passOn(what, response, begun, limits.passing);
      isPassedOn = true;
      return { text: null, body: undefined, passing };
    }
    if (refusal !== null) throw refusal;
    const bytes = Buffer.concat(held);
    const text = size > HELD_BYTES ? null : bytes.toString('utf8');
    return { text, body: picker === null ? parse(bytes) : picker.end() };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Malformed) return { text: Buffer.concat(held).toString('utf8'), body: undefined };
    if (error instanceof TooMuch) throw tooMuch(what, error, limits.code);
    throw connectionError(what, error);
  } finally {
    if (!isPassedOn) await pieces.return(undefined);
  }
}

/** What was read of an answer so far. */
interface Begun {
  readonly pieces: AsyncGenerator<Uint8Array>;
  readonly held: readonly Buffer[];
  readonly picker: JsonPicker | null;
}

function passOn(
  what: string,
  response: MlflowResponse,
  { pieces, held, picker }: Begun,
  { places, isRead }: NonNullable<AnswerLimits['passing']>,
): PassingAnswer {
  if (!places.take()) {
    throw new SidecarError('overloaded', `${what}: too many long answers are on their way to clients.`, {
      hint: 'Ask again in a moment, or for fewer results at once.',
    });
  }
  return new PassingAnswer({
    first: Buffer.concat(held),
    rest: pieces,
    body: response.body,
    length: contentLength(response),
    picker: isRead ? picker : null,
    over: () => places.giveBack(),
  });
}

function tooMuch(what: string, { message }: TooMuch, code: ErrorCode): SidecarError {
  return new SidecarError(code, `${what}: the answer ${message}.`, {
    hint: 'See "How large MLflow\'s answers may be" in docs/operating.md.',
    // A limit of ours: it says nothing of the server, and the next try would end at it, too.
    serverFault: false,
  });
}

/** Undefined where it is no JSON, which bytes that are no UTF-8 are not. */
function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    return undefined;
  }
}
