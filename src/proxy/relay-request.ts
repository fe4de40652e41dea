import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { requestHeaders } from '../upstream/relay-headers.ts';
import type { Effect } from './effect.ts';

/** Of a request's body: up to it a request is short, and sent at once. */
const SHORT_BYTES = 1024 * 1024;

/** Whom a request is for: the server's registry, its runs and traces, or the files behind it. */
export type RelayKind = 'registry' | 'tracking' | 'artifacts';

export interface RelayRequest {
  /** Says how long it may take, and which breaker it passes. */
  readonly kind: RelayKind;
  /** Any of HTTP's. */
  readonly method: string;
  /** Rebuilt from decoded, re-encoded segments on the upstream's base address. */
  readonly url: URL;
  /** The caller's, as they came. */
  readonly headers: IncomingHttpHeaders;
  /** The caller's, as it comes; null where there is none. It is not destroyed, and what is not sent of it stays unread. */
  readonly body: Readable | null;
  /** The caller's own; null where there is none, or where it was meant for the sidecar. */
  readonly authorization: string | null;
  /** Aborts when the caller has left, or the process ends. */
  readonly signal: AbortSignal;
  /** Told what the request did to MLflow; the last word counts, and without one it was not sent. */
  readonly onEffect?: (effect: Effect) => void;
}

/** Without a body, or with one that is sent at once. */
export function isShort({ headers, body }: RelayRequest): boolean {
  return body === null || Number(headers['content-length'] ?? Number.NaN) <= SHORT_BYTES;
}

export function headersOf({ headers, body, authorization }: RelayRequest): Record<string, string> {
  const length = body === null ? undefined : headers['content-length'];
  return {
    ...requestHeaders(headers),
    ...(length === undefined ? {} : { 'content-length': length }),
    ...(authorization === null ? {} : { authorization }),
  };
}
