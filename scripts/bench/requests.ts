import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** What a server has to answer, as bytes. */
interface Question {
  readonly port: number;
  /** With its query. */
  readonly path: string;
  /** How long the body is. */
  readonly bodyBytes: number;
}

/**
 * Asks one question so many times, so many at once, each on a kept connection: bare sockets, since an HTTP client takes more of a core
 * than the server that is measured.
 * @returns milliseconds for all of them
 * @throws Error on the first answer that is not 200 with as many bytes
 */
export async function requests(question: Question, count: number, inFlight: number): Promise<number> {
  const sockets = Array.from({ length: inFlight }, () =>
    connect(question.port, '127.0.0.1').setNoDelay(true),
  );
  await Promise.all(sockets.map(socket => once(socket, 'connect')));
  let left = count;
  const next = () => left-- > 0;
  const startedAt = performance.now();
  try {
    await Promise.all(sockets.map(socket => askOnAndOn(socket, question, next)));
    return performance.now() - startedAt;
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

function askOnAndOn(socket: Socket, { path, bodyBytes }: Question, next: () => boolean): Promise<void> {
  const request = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
  let text = '';
  return new Promise((resolve, reject) => {
    const ask = () => (next() ? socket.write(request) : resolve());
    socket
      .setEncoding('latin1')
      .once('error', reject)
      .once('close', () => reject(new Error(`The connection ended after: ${text}`)))
      .on('data', (chunk: string) => {
        text += chunk;
        const head = text.indexOf('\r\n\r\n') + 4;
        if (head < 4) return;
        if (!isWanted(text.slice(0, head), bodyBytes)) reject(new Error(`${path} answered: ${text}`));
        if (text.length < head + bodyBytes) return;
        text = '';
        ask();
      });
    ask();
  });
}

function isWanted(head: string, bodyBytes: number): boolean {
  return head.startsWith('HTTP/1.1 200 ') && Number(/^content-length: (\d+)/im.exec(head)?.[1]) === bodyBytes;
}
