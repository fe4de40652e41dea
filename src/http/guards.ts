import { createHash, timingSafeEqual } from 'node:crypto';
import type { RequestHandler } from 'express';
import { isLoopback } from '../config/loopback.ts';
import { SidecarError } from '../domain/errors.ts';
import { matchesGlob } from '../domain/glob.ts';

const HOST = /^(?:\[([\da-f:.]+)\]|([^\s:[\]/?#@\\]+))(?::\d{1,5})?$/i;
const ORIGIN = /^https?:\/\/(.+)$/i;
const HINT = 'Set SIDECAR_ALLOWED_HOSTS to the host names that this sidecar is reached by.';

/**
 * Refuses what a web page made a browser send: a name that was rebound to this address (Host), and a request
 * from a page of another host (Origin).
 */
export function hostGuard(allowedHosts: readonly string[]): RequestHandler {
  return (req, _res, next) => {
    checkHost('Host', req.headers.host ?? '', allowedHosts);
    const origin = req.get('origin');
    if (origin !== undefined) checkHost('Origin', origin, allowedHosts, ORIGIN.exec(origin)?.[1] ?? '');
    next();
  };
}

function checkHost(header: string, shown: string, allowed: readonly string[], authority = shown): void {
  const host = hostOf(authority);
  if (host !== null && isAllowedHost(host, allowed)) return;
  const said = shown === '' ? 'is missing' : `${JSON.stringify(shown.slice(0, 200))} is not allowed`;
  throw new SidecarError('forbidden_host', `The ${header} header ${said}.`, { hint: HINT });
}

/** The host of `host:port` in lower case, an IPv6 address without its brackets, a name without the dot of the root; null where it is not one. */
function hostOf(authority: string): string | null {
  const match = HOST.exec(authority);
  return (match?.[1] ?? match?.[2]?.replace(/(.)\.$/, '$1'))?.toLowerCase() ?? null;
}

function isAllowedHost(host: string, allowed: readonly string[]): boolean {
  return (
    isLoopback(host) ||
    host.endsWith('.localhost') ||
    allowed.some(pattern => matchesGlob(pattern.toLowerCase(), host))
  );
}

/** Asks for the token as a bearer token, or as the password of Basic with any user. */
export function tokenGuard(token: string | null): RequestHandler {
  if (token === null) return (_req, _res, next) => next();
  const expected = sha256(token);
  return (req, res, next) => {
    const given = tokenOf(req.get('authorization') ?? '');
    // Digests have one length: comparing them tells nothing of the token's.
    if (given !== null && timingSafeEqual(sha256(given), expected)) return next();
    res.set('WWW-Authenticate', [
      'Bearer realm="mlflow-sidecar"',
      'Basic realm="mlflow-sidecar", charset="UTF-8"',
    ]);
    const said = given === null ? 'The request carries no token.' : 'The token is not the right one.';
    throw new SidecarError('unauthorized', said, {
      hint: 'Send SIDECAR_TOKEN as "Authorization: Bearer <token>", or as the password of Basic authentication.',
    });
  };
}

function tokenOf(authorization: string): string | null {
  const [, scheme = '', credentials = ''] = /^(bearer|basic) +(.+)$/i.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== 'basic') return credentials === '' ? null : credentials;
  const pair = Buffer.from(credentials, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  return colon < 0 ? null : pair.slice(colon + 1);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
