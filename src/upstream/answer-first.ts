import type { Socket } from 'node:net';
import type { buildConnector } from 'undici';
import { errnoOf } from '../domain/errors.ts';

/** What was said before the connection ended lies in the system's buffers, and is read in a moment. */
const READ_WITHIN_MS = 1_000;
const GONE = new Set(['EPIPE', 'ECONNRESET']);

type Written = (error?: Error | null) => void;

/**
 * Connections on which a write that fails ends nothing until what had come by then was read. A server that refuses a body unread
 * says why and hangs up, and Node would take the failed write for all that there is to know.
 */
export function answerFirst(connect: buildConnector.connector): buildConnector.connector {
  return (options, callback) =>
    connect(options, (...connected) => {
      const [error, socket] = connected;
      if (error === null) holdBackWriteErrors(socket);
      callback(...connected);
    });
}

function holdBackWriteErrors(socket: Socket): void {
  const write = socket['_write'].bind(socket);
  const writeMany = socket['_writev']?.bind(socket);
  const heldBack =
    (written: Written): Written =>
    error => {
      if (error && GONE.has(errnoOf(error))) whenRead(socket, () => written(error));
      else written(error);
    };
  socket['_write'] = (chunk, encoding, written) => write(chunk, encoding, heldBack(written));
  if (writeMany !== undefined) socket['_writev'] = (chunks, written) => writeMany(chunks, heldBack(written));
}

/** That ends the connection, or comes to its end. */
function whenRead(socket: Socket, then: () => void): void {
  const timer = setTimeout(done, READ_WITHIN_MS);
  socket.once('end', done).once('close', done);
  function done(): void {
    clearTimeout(timer);
    socket.off('end', done).off('close', done);
    then();
  }
}
