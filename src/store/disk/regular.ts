import { constants } from 'node:fs';
import { errnoOf } from '../../domain/errors.ts';

/**
 * For files of the cache. Somebody may have put something else in a file's place: to open a pipe would hold one of libuv's threads
 * until somebody writes to it, for ever if need be, and a link may lead anywhere.
 */
export const READ_REGULAR = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;

/** What it says of a link, of a socket or device, of a directory, and of a pipe with a writer. */
const OTHERS = new Set(['ELOOP', 'EMLINK', 'ENXIO', 'ENODEV', 'EISDIR', 'EAGAIN']);

/** Whether something else is in the place of a regular file, as told by opening or reading it. */
export function isOther(error: unknown): boolean {
  return OTHERS.has(errnoOf(error));
}
