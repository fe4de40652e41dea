import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

export interface OddServer {
  readonly url: string;
  /** Heads and bodies of the requests that came whole. */
  readonly requests: readonly string[];
  readonly connections: () => number;
}

/** A server on a free port of loopback that does what it likes with each request. It ends with the test. */
export async function oddServer(act: (socket: Socket) => void): Promise<OddServer> {
  const requests: string[] = [];
  const open = new Set<Socket>();
  const server = createServer(socket => {
    open.add(socket);
    socket.on('error', () => undefined).once('close', () => open.delete(socket));
    let text = '';
    const take = (chunk: Buffer) => {
      text += chunk.toString('utf8');
      if (!isWhole(text)) return;
      socket.off('data', take).resume();
      requests.push(text);
      act(socket);
    };
    socket.on('data', take);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The system gave no port.');
  return { url: `http://127.0.0.1:${address.port}`, requests, connections: () => open.size };
}

function isWhole(request: string): boolean {
  const end = request.indexOf('\r\n\r\n');
  const length = Number(/^content-length: (\d+)/im.exec(request)?.[1] ?? 0);
  return end >= 0 && Buffer.byteLength(request.slice(end + 4)) >= length;
}

/** A whole answer. */
export function answer(status: number, type: string, body: string, headers = ''): (socket: Socket) => void {
  const head = `HTTP/1.1 ${status} X\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`;
  return socket => void socket.end(`${head}${headers}\r\n${body}`);
}

/** `start` at once, then `piece` every so many milliseconds, for ever. */
export function drip(start: string, piece: string, everyMs: number): (socket: Socket) => void {
  return socket => {
    socket.write(start);
    const timer = setInterval(() => socket.write(piece), everyMs);
    socket.once('close', () => clearInterval(timer));
  };
}

/** `start`, then `piece` again and again, as fast as it is taken off. */
export function pour(start: string, piece: string): (socket: Socket) => void {
  const many = piece.repeat(Math.ceil(65_536 / piece.length));
  return socket => {
    const more = () => {
      while (!socket.destroyed && socket.write(many));
    };
    socket.write(start);
    socket.on('drain', more);
    more();
  };
}
