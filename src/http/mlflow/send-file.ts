import type { Request, Response } from 'express';
import { SidecarError } from '../../domain/errors.ts';
import { sendText } from '../send.ts';
import { sendPieces } from '../stream.ts';
import { mlflowErrorText } from './errors.ts';

/** A file of a known size, whose bytes never change. */
export interface Sendable {
  /** In bytes. */
  readonly size: number;
  /** Strong, with its quotes; null where nobody knows yet what is in it. */
  readonly etag: string | null;
  /** @param to exclusive */
  readonly read: (from: number, to: number) => AsyncIterable<Uint8Array>;
}

/** Answers GET and HEAD with the file, or with the part that is asked for. */
export async function sendFile(req: Request, res: Response, file: Sendable): Promise<void> {
  const { size, etag } = file;
  res.set({
    'Content-Type': 'application/octet-stream',
    'Content-Disposition': 'attachment',
    'Accept-Ranges': 'bytes',
  });
  if (etag !== null) res.set('ETag', etag);
  if (etag !== null && isNamed(req.get('if-none-match'), etag)) return void res.status(304).end();
  const part = partOf(req, size, etag);
  if (part === null) {
    res.set('Content-Range', `bytes */${size}`);
    const error = new SidecarError(
      'invalid_request',
      `The file has ${size} bytes, and none of those that were asked for.`,
    );
    return sendText(res, 416, mlflowErrorText(error), 'application/json');
  }
  const { from, to } = part;
  if (part.isPart) res.set('Content-Range', `bytes ${from}-${to - 1}/${size}`);
  res.status(part.isPart ? 206 : 200).set('Content-Length', String(to - from));
  if (req.method === 'HEAD') return void res.end();
  await sendPieces(res, to > from ? file.read(from, to) : []);
}

interface Part {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
  readonly isPart: boolean;
}

/** Null where nothing of what was asked for is there. Of several parts, and of another content, the whole file is given. */
function partOf(req: Request, size: number, etag: string | null): Part | null {
  const whole = { from: 0, to: size, isPart: false };
  const ifRange = req.get('if-range');
  if (ifRange !== undefined && ifRange !== etag) return whole;
  const ranges = req.range(size);
  if (ranges === undefined || ranges === -2) return whole;
  if (ranges === -1) return isLongerThan(req, size) ? { ...whole, isPart: true } : null;
  const [range, ...more] = ranges;
  if (range === undefined || more.length > 0 || ranges.type !== 'bytes') return whole;
  return { from: range.start, to: range.end + 1, isPart: true };
}

/** Whether the last bytes are asked for, and more of them than there are: that is all of them, and no fault. */
function isLongerThan(req: Request, size: number): boolean {
  const [, last = ''] = /^bytes=-(\d+)$/i.exec(req.get('range') ?? '') ?? [];
  return size > 0 && Number(last) > size;
}

function isNamed(header: string | undefined, etag: string): boolean {
  return header?.split(',').some(one => one.trim() === etag || one.trim() === `W/${etag}`) ?? false;
}
