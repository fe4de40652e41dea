import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import { buffer } from 'node:stream/consumers';

/** One request and its answer, with the times of `performance.now()` at which they began and ended. */
interface Exchange {
  readonly beganAt: number;
  readonly endedAt: number;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly status: number;
}

export interface Relay {
  readonly url: string;
  /** What a task sent that names itself in X-Airflow-Task-Id, in the order in which it was answered. */
  of(taskId: string): readonly Exchange[];
  /** How many requests of a task have come, answered or not. */
  begun(taskId: string): number;
  close(): Promise<void>;
}

/** Passes every request on to another HTTP server, as it is, and keeps an account. */
export async function startRelay(target: string): Promise<Relay> {
  const exchanges: Exchange[] = [];
  const begun: string[] = [];
  const server = createServer((req, res) => {
    begun.push(taskOf(req.headers));
    pass(req, res, target).then(
      exchange => exchanges.push(exchange),
      () => res.destroy(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The system gave no port.');
  return {
    url: `http://127.0.0.1:${address.port}`,
    of: taskId => exchanges.filter(({ headers }) => taskOf(headers) === taskId),
    begun: taskId => begun.filter(each => each === taskId).length,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function taskOf(headers: IncomingHttpHeaders): string {
  return String(headers['x-airflow-task-id']);
}

async function pass(req: IncomingMessage, res: ServerResponse, target: string): Promise<Exchange> {
  const beganAt = performance.now();
  const { method = '', url = '', headers } = req;
  const body = await buffer(req);
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const onward = request(target + url, { method, headers }, resolve).once('error', reject);
    res.once('close', () => onward.destroy());
    onward.end(body);
  });
  const bytes = await buffer(answer);
  const status = answer.statusCode ?? 0;
  res.writeHead(status, answer.headers).end(bytes);
  return { beganAt, endedAt: performance.now(), method, url, headers, body: body.toString(), status };
}
