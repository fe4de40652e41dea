import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import type { Dispatcher } from 'undici';
import { loadAddress } from '../config/cache.ts';
import { errnoOf } from '../domain/errors.ts';
import { CommandFailure, USAGE } from './failure.ts';
import type { Env } from './option-flags.ts';

const LOOPBACK = '127.0.0.1';

/** A running sidecar, as its clients reach it. */
export interface Sidecar {
  readonly url: string;
  readonly token: string | null;
}

export interface Answer {
  readonly status: number;
  /** Without parameters, in lower case. */
  readonly type: string;
  readonly text: string;
}

export interface Call {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly accept: string;
  readonly body?: string;
  /** For the whole call, its answer read to the end. */
  readonly timeoutMs: number;
}

/**
 * By `--url`, SIDECAR_URL, or the address that a sidecar beside it has.
 * @throws CommandFailure for an address or a token that cannot be used
 */
export function sidecarOf(urlFlag: string | undefined, env: Env): Sidecar {
  const url = urlOf(urlFlag, env);
  return { url, token: env['SIDECAR_TOKEN'] || tokenFromFile(env['SIDECAR_TOKEN_FILE']) };
}

/** The same, for what asks for no token. */
export function probedSidecarOf(urlFlag: string | undefined, env: Env): Sidecar {
  return { url: urlOf(urlFlag, env), token: null };
}

function urlOf(urlFlag: string | undefined, env: Env): string {
  const [name, text] =
    urlFlag === undefined ? ['SIDECAR_URL', env['SIDECAR_URL'] || urlBeside(env)] : ['--url', urlFlag];
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '') {
    throw new CommandFailure(
      `${name} must be http://host:port or https://host:port, without a user name.`,
      USAGE,
    );
  }
  return url.href.replace(/\/+$/, '');
}

/** Of a sidecar with the same environment and file, as in its own container. */
function urlBeside(env: Env): string {
  const { host, port } = loadAddress({ env, flags: {} });
  const isAny = host === '0.0.0.0' || host === '::';
  const at = isIPv6(host) ? `[${host}]` : host;
  return `http://${isAny ? LOOPBACK : at}:${port}`;
}

function tokenFromFile(path: string | undefined): string | null {
  if (path === undefined || path === '') return null;
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new CommandFailure(`SIDECAR_TOKEN_FILE=${path} cannot be read (${errnoOf(error)}).`, USAGE);
  }
}

/** @throws CommandFailure where no answer comes in time, in one line */
export async function ask({ url, token }: Sidecar, call: Call): Promise<Answer> {
  const { request } = await import('undici');
  const options = {
    method: call.method,
    headers: {
      accept: call.accept,
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: call.body ?? null,
    signal: AbortSignal.timeout(call.timeoutMs),
    headersTimeout: 0,
    bodyTimeout: 0,
  };
  try {
    return await answerOf(await request(`${url}${call.path}`, options));
  } catch (error) {
    throw new CommandFailure(`${url} ${reasonOf(error, call.timeoutMs)}`, undefined, error);
  }
}

async function answerOf({ statusCode, headers, body }: Dispatcher.ResponseData): Promise<Answer> {
  const header = headers['content-type'];
  const type = (typeof header === 'string' ? header : '').split(';')[0]?.trim().toLowerCase() ?? '';
  return { status: statusCode, type, text: await body.text() };
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === 'TimeoutError')
    return `did not answer within ${timeoutMs / 1_000} s.`;
  if (errnoOf(error) === 'ECONNREFUSED') {
    return 'refuses connections: is a sidecar running there? Its address is set by SIDECAR_URL or --url.';
  }
  return `does not answer: ${error instanceof Error ? error.message || errnoOf(error) : String(error)}`;
}

/** The words of a problem, or of an answer that no sidecar gives. */
export function problemOf({ status, type, text }: Answer): string {
  const problem = type === 'application/problem+json' || type === 'application/json' ? parsed(text) : null;
  const { code, detail } = { code: textIn(problem, 'code'), detail: textIn(problem, 'detail') };
  if (code === null || detail === null)
    return `answered HTTP ${status} as no sidecar does: is it the right address?`;
  const hint = textIn(problem, 'hint');
  return `answered ${code}: ${detail}${hint === null ? '' : ` ${hint}`}`;
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function textIn(value: unknown, key: string): string | null {
  if (typeof value !== 'object' || value === null) return null;
  const member: unknown = Object.getOwnPropertyDescriptor(value, key)?.value;
  return typeof member === 'string' ? member : null;
}
