import type { Response } from 'express';
import { isSliceOver, nextSlice } from '../policy/slices.ts';
import { JSON_TYPE, sendText } from './send.ts';

/** A client that takes nothing for so long is gone, or hangs. */
const UNREAD_MS = 30_000;
/** Of a long list: what is held for a client that reads slowly. */
const PIECE_CHARS = 16 * 1024;

/**
 * Sends a body as it comes, no quicker than the client takes it.
 * @throws what the body does; whoever has begun to send then cuts the connection
 */
export async function sendPieces(
  res: Response,
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  for await (const piece of body) {
    await written(res, piece);
    if (res.destroyed) return;
  }
  res.end();
}

/**
 * Sends `{"<name>":[…]}`, however long it gets: no quicker than the client takes it, and in between everybody else has a turn.
 * A short one goes at once, with its length.
 */
export async function sendJsonList(res: Response, name: string, items: Iterable<unknown>): Promise<void> {
  let text = `{${JSON.stringify(name)}:[`;
  let separator = '';
  for (const item of items) {
    text += separator + JSON.stringify(item);
    separator = ',';
    if (text.length >= PIECE_CHARS) {
      if (!res.headersSent) res.setHeader('Content-Type', JSON_TYPE);
      await written(res, text);
      if (res.destroyed) return;
      text = '';
    }
    if (isSliceOver()) await nextSlice();
  }
  text += ']}';
  if (res.headersSent) res.end(text);
  else sendText(res, 200, text, JSON_TYPE);
}

/** Resolves when the system has taken the piece, or the client is gone. */
async function written(res: Response, piece: Uint8Array | string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const unread = setTimeout(() => res.destroy(), UNREAD_MS);
  res.once('close', resolve);
  res.write(piece, () => resolve());
  await promise;
  clearTimeout(unread);
  res.off('close', resolve);
}
