import { SidecarError } from '../domain/errors.ts';
import { singleHeader } from '../upstream/failure.ts';
import type { UpstreamResponse } from '../upstream/transport.ts';
import type { OpenFile, WantedRange } from './source.ts';

/** What came does not belong to what is there: the file starts again from nothing. */
export class Changed extends SidecarError {
  constructor(what: string) {
    super(
      'artifact_corrupt',
      `${what} changed while it was fetched, or its server answers with another part of it.`,
      {
        hint: 'It is fetched again from its beginning.',
      },
    );
  }
}

/** @param range undefined for the whole file */
export function rangeHeaders(range: WantedRange | undefined): Readonly<Record<string, string>> {
  if (range === undefined) return {};
  const { from, to, etag } = range;
  return { range: `bytes=${from}-${to}`, ...(etag === null ? {} : { 'if-range': etag }) };
}

/** Null for a weak one: equal weak ETags do not mean equal bytes. */
export function strongEtag(header: string | undefined): string | null {
  return header !== undefined && /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(header) ? header : null;
}

/**
 * @returns null for a whole file
 * @throws Changed where a part does not say which one it is
 */
export function partOf(what: string, response: UpstreamResponse): OpenFile['part'] {
  if (response.statusCode !== 206) return null;
  const header = singleHeader(response.headers['content-range']) ?? '';
  const [, from, to, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(header) ?? [];
  const length = singleHeader(response.headers['content-length']);
  const part = { from: Number(from), to: Number(to), total: Number(total) };
  const isLength = length === undefined || Number(length) === part.to - part.from + 1;
  if (from !== undefined && part.to >= part.from && part.to < part.total && isLength) return part;
  response.body.close();
  throw new Changed(what);
}

/** Whether the part that came is the one that was wanted, of that content and of a file of this size. */
export function isWanted({ part, etag }: OpenFile, wanted: WantedRange, total: number): boolean {
  if (part === null || etag === null) return false;
  const isContent = wanted.etag === null || wanted.etag === etag;
  return isContent && part.from === wanted.from && part.to === wanted.to && part.total === total;
}
