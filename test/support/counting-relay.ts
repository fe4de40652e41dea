import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';

export interface CountingRelay {
  readonly url: string;
  /** Method and target of each request that has come since this was last asked, in their order. */
  taken(): readonly string[];
  close(): Promise<void>;
}

/** Passes every request on to another HTTP server, both ways as it comes, and keeps an account. */
export async function startCountingRelay(target: string): Promise<CountingRelay> {
  let requests: string[] = [];
  // As with a server that is asked directly, connections are as many as the client's.
  const agent = new Agent({ keepAlive: false });
  const server = createServer((req, res) => {
    requests.push(`${req.method} ${req.url}`);
    pass(req, res, target, agent).catch(() => res.destroy());
  });
  server.requestTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The system gave no port.');
  return {
    url: `http://127.0.0.1:${address.port}`,
    taken() {
      const all = requests;
      requests = [];
      return all;
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function pass(req: IncomingMessage, res: ServerResponse, target: string, agent: Agent): Promise<void> {
  const { method = '', url = '', headers } = req;
  const onward = request(target + url, { method, headers: { ...headers, connection: 'close' }, agent });
  res.once('close', () => onward.destroy());
  const answered = once(onward, 'response');
  const [[answer]] = await Promise.all([answered, pipeline(req, onward)]);
  const { connection: _, ...passed } = answer.headers;
  res.writeHead(answer.statusCode, passed);
  await pipeline(answer, res);
}
