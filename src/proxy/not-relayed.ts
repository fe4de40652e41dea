import { z } from 'zod';
import type { SidecarError } from '../domain/errors.ts';
import { singleHeader, statusError } from '../upstream/failure.ts';
import type { ResponseHead } from '../upstream/receive.ts';
import { redactor } from '../upstream/redact.ts';
import type { UpstreamResponse } from '../upstream/transport.ts';

/** MLflow's client tries these again, seven times, and waits for minutes. */
const RETRIED: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);
const NOT_MODIFIED = 304;
/** Of an error's body; MLflow's own are a few hundred bytes. */
const MAX_ERROR_BYTES = 64 * 1024;
/** For the rest of an error whose head is there: it comes in one piece, or from somewhere that hangs. */
const ERROR_WAIT_MS = 2_000;
const MAX_MESSAGE_LENGTH = 300;
const MAX_START_LENGTH = 200;

const MlflowError = z.object({ message: z.string() });

/** Whether a status is not for MLflow's client to see: one that it tries again, or sends it elsewhere. */
export function isWithheld(status: number): boolean {
  return RETRIED.has(status) || (status >= 300 && status < 400 && status !== NOT_MODIFIED);
}

/**
 * What is said instead of an answer with such a status: an error with MLflow's own words, as far as they come.
 * @param authorization what may not be seen in them
 */
export async function withheldError(
  who: string,
  response: UpstreamResponse,
  authorization: string | null,
): Promise<SidecarError> {
  const redact = redactor(authorization);
  const words = redact(wordsOf(response, await startOf(response)));
  return statusError(who, response, words.slice(0, MAX_MESSAGE_LENGTH) || null);
}

async function startOf({ body }: UpstreamResponse): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => body.close(), ERROR_WAIT_MS);
  try {
    for await (const piece of body) {
      chunks.push(Buffer.from(piece));
      size += piece.byteLength;
      if (size >= MAX_ERROR_BYTES) break;
    }
  } catch {
    // The status says more than that its explanation broke off.
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).toString('utf8', 0, MAX_ERROR_BYTES);
}

function wordsOf({ headers }: ResponseHead, text: string): string {
  if ((singleHeader(headers['content-encoding']) ?? 'identity') !== 'identity') return '';
  try {
    const error = MlflowError.safeParse(JSON.parse(text));
    if (error.success) return error.data.message;
  } catch {
    // Not MLflow's JSON: a page or a line of something on the way.
  }
  return text.slice(0, MAX_START_LENGTH).replace(/\s+/g, ' ').trim();
}
