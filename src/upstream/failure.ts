import { errnoOf, SidecarError } from '../domain/errors.ts';
import { parseRetryAfter } from '../policy/backoff.ts';
import type { ResponseHead } from './receive.ts';

const TIMEOUTS = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
  'ETIMEOUT',
]);

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'the host name is unknown',
  EAI_AGAIN: 'the host name could not be looked up',
  ETIMEOUT: 'the host name could not be looked up in time',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'the network is unreachable',
  UND_ERR_CONNECT_TIMEOUT: 'no connection within 3 s',
  UND_ERR_HEADERS_TIMEOUT: 'no answer within 120 s',
  UND_ERR_SOCKET: 'the connection was closed before the answer was whole',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'the answer was shorter than it said',
};

const DROPPED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

/** Whether a connection that was there ended before its answer began. */
export function isDroppedConnection(error: unknown): boolean {
  return error instanceof SidecarError && DROPPED.has(errnoOf(error.cause));
}

const NOBODY_THERE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/** Whether nobody took the connection, so that nobody noticed the request either. */
export function isNobodyThere(error: SidecarError): boolean {
  return NOBODY_THERE.has(errnoOf(error.cause));
}

/** Whether a name is unknown, which is a mistake where nobody ever answered to it. */
export function isUnknownName(error: SidecarError): boolean {
  return errnoOf(error.cause) === 'ENOTFOUND';
}

/** An answer as it came, for whoever passes it on. */
export interface PlainAnswer {
  readonly status: number;
  readonly text: string;
  readonly contentType: string;
}

/** MLflow's own word against what was asked: a 4xx that no further try would change. */
export class Refusal extends SidecarError {
  readonly answer: PlainAnswer;

  constructor({ code, message, hint }: SidecarError, answer: PlainAnswer) {
    super(code, message, { hint: hint ?? undefined, serverFault: false });
    this.answer = answer;
  }
}

/** Why no whole answer came, in words. */
export function reasonOf(error: unknown): string {
  const code = errnoOf(error);
  if (code.startsWith('ERR_SSL')) return `the TLS handshake failed (${code})`;
  const message = error instanceof Error ? error.message : String(error);
  return WORDS[code] ?? (code === '' ? message : `${message} (${code})`);
}

/** The error for an exchange that broke: nobody there, a broken connection, TLS that does not hold, or too slow. */
export function connectionError(what: string, error: unknown): SidecarError {
  if (error instanceof SidecarError) return error;
  if (TIMEOUTS.has(errnoOf(error))) {
    return new SidecarError('mlflow_timeout', `${what}: ${reasonOf(error)}.`, { cause: error });
  }
  const permanent = isPermanent(error);
  return new SidecarError('mlflow_unreachable', `${what}: ${reasonOf(error)}.`, {
    hint: hintOf(error),
    cause: error,
    // Whoever asks next is told the hint, too, and no `circuit_open`.
    ...(permanent ? { permanent, serverFault: false } : {}),
  });
}

/** What no further try would change: a certificate that does not verify, a handshake that is refused, another protocol than HTTP. */
function isPermanent(error: unknown): boolean {
  const code = errnoOf(error);
  return isOfCertificate(code) || isOtherProtocol(code) || refusesTunnel(error);
}

/** As where a TLS port is asked in plain HTTP. */
function isOtherProtocol(code: string): boolean {
  return /^HPE_INVALID_(CONSTANT|VERSION|STATUS)$/.test(code);
}

function isOfCertificate(code: string): boolean {
  return /CERT|SIGNED|SIGNATURE|ISSUER|^ERR_SSL_(?!UNEXPECTED_EOF)|^ERR_TLS_(?!HANDSHAKE_TIMEOUT)/.test(code);
}

/** A proxy on the way that wants a credential, or does not let this host be reached. */
function refusesTunnel(error: unknown): boolean {
  return error instanceof Error && /Proxy response \(4(?!08|29)\d\d\)/.test(error.message);
}

function hintOf(error: unknown): string {
  const code = errnoOf(error);
  if (refusesTunnel(error)) return 'Check HTTPS_PROXY, its credential, and NO_PROXY.';
  if (isOfCertificate(code) || isOtherProtocol(code)) {
    return 'Name the CA bundle in MLFLOW_TRACKING_SERVER_CERT_PATH; http or https must match what the server speaks.';
  }
  return 'Check that MLflow runs and that MLFLOW_TRACKING_URI is its address as seen from here.';
}

/**
 * The error for an answer with a status that is no success. Whether a 4xx has a meaning is for the caller to say first.
 * @param message the upstream's own words, if it gave any
 */
export function statusError(what: string, response: ResponseHead, message: string | null): SidecarError {
  const { statusCode: status, headers } = response;
  const said = message === null ? '' : ` (${message})`;
  if (status === 401 || status === 403) return deniedError(what, status, said);
  if (status >= 300 && status < 400) return redirectError(what, status);
  return new SidecarError(
    status === 408 ? 'mlflow_timeout' : 'mlflow_error',
    `${what}: HTTP ${status}${said}.`,
    {
      retryAfterS: parseRetryAfter(singleHeader(headers['retry-after']), Date.now()) ?? undefined,
      serverFault: !isAboutTheRequest(status),
      unavailable: UNAVAILABLE.has(status),
      permanent: isAboutTheRequest(status) || NEVER.has(status),
    },
  );
}

/** Not implemented, another version of HTTP, a network that wants a login. */
const NEVER: ReadonlySet<number> = new Set([501, 505, 511]);

/** A server's, or that of what stands in front of it; a 500 may be of one question or file only. */
const UNAVAILABLE: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

/** A 4xx is about what was asked, but for the two by which a server says that it has too much to do. */
export function isAboutTheRequest(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function deniedError(what: string, status: number, said: string): SidecarError {
  const hint = said.includes('Invalid Host header')
    ? 'MLflow checks the Host header: start it with --allowed-hosts naming the host in MLFLOW_TRACKING_URI.'
    : 'Check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and their permissions.';
  return new SidecarError('access_denied', `${what}: refused with HTTP ${status}${said}.`, { hint });
}

function redirectError(what: string, status: number): SidecarError {
  return new SidecarError(
    'mlflow_error',
    `${what}: redirected (HTTP ${status}); redirects are not followed.`,
    {
      hint: 'Set MLFLOW_TRACKING_URI to the address that it redirects to, if that one is MLflow.',
      permanent: true,
      serverFault: false,
    },
  );
}

export function singleHeader(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** What an answer says that its body is, in bytes. */
export function contentLength({ headers }: ResponseHead): number | null {
  const header = singleHeader(headers['content-length']);
  return header === undefined ? null : Number(header);
}
