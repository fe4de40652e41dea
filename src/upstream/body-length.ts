import { contentLength } from './failure.ts';
import type { ResponseHead } from './receive.ts';

/** What an answer says that its body is, in bytes; null where it comes in chunks; unknown where it ends with the connection. */
export function bodyLength(method: string, response: ResponseHead): number | null | 'unknown' {
  const { statusCode, headers } = response;
  const hasBody = method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
  const codings = [headers['transfer-encoding'] ?? []].flat().join(',').toLowerCase();
  if (/(^|,)\s*chunked\s*$/.test(codings)) return null;
  return contentLength(response) ?? (hasBody ? 'unknown' : null);
}
