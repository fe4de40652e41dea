import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { Relay, type RelayedAnswer, type RelayOptions } from '../../src/proxy/relay.ts';
import type { RelayRequest } from '../../src/proxy/relay-request.ts';
import { Transport } from '../../src/upstream/transport.ts';
import { DIRECT, listen } from '../upstream/support.ts';

export const FIRST_BYTE_MS = 600;
export const IDLE_MS = 1_000;
const FLOOR = { bytesPerSecond: 1_000, windowS: 1 };

type Handler = (req: IncomingMessage, res: ServerResponse) => void | Promise<void>;

/** The same for whatever a request is for. */
export function answerWithin(ms: number) {
  return { registry: ms, tracking: ms, artifacts: ms };
}

/** For what is to take too long; whatever else is relayed has time. */
export const IMPATIENT = { answerMs: answerWithin(FIRST_BYTE_MS), idleMs: IDLE_MS };

type Given = Partial<Omit<RelayRequest, 'url'>>;

/** A relay to a server, with how its breaker stands. */
export async function relayTo(url: string, options: Partial<RelayOptions> = {}) {
  const transport = await Transport.open(DIRECT, { connections: 32 });
  onTestFinished(() => transport.close());
  const breaker = new Breaker({
    who: `MLflow at ${url}`,
    limits: { failures: 5, resetMs: 200 },
    clock: systemClock,
    onChange: () => undefined,
  });
  onTestFinished(() => breaker.dispose());
  const bus = new EventBus();
  const events: SidecarEvent[] = [];
  bus.subscribe(event => events.push(event));
  const relay = new Relay({
    transport,
    breakerOf: () => breaker,
    floor: FLOOR,
    clock: systemClock,
    events: bus,
    answerMs: answerWithin(60_000),
    idleMs: 60_000,
    ...options,
  });
  const send = async (given: Given = {}, path = '/api/2.0/mlflow/x') =>
    await relay.send({
      kind: 'tracking',
      method: 'GET',
      url: new URL(url + path),
      headers: {},
      body: null,
      authorization: null,
      signal: new AbortController().signal,
      ...given,
    });
  return { send, breaker, events };
}

/** The same to an HTTP server of this test's own. */
export async function relayed(handler: Handler, options: Partial<RelayOptions> = {}) {
  const asked: IncomingMessage[] = [];
  const handle = async (req: IncomingMessage, res: ServerResponse) => handler(req, res);
  const server = createServer((req, res) => {
    asked.push(req);
    req.on('error', () => undefined);
    handle(req, res).catch(() => res.destroy());
  });
  let connections = 0;
  server.on('connection', () => connections++);
  const url = await listen(server);
  return { ...(await relayTo(url, options)), url, asked, connections: () => connections };
}

/** And to one that does with its connections as it likes. */
export async function relayedRaw(onConnection: (socket: Socket, n: number) => void, options = {}) {
  const open = new Set<Socket>();
  let connections = 0;
  const server = createTcpServer(socket => {
    open.add(socket);
    socket.on('error', () => undefined).once('close', () => open.delete(socket));
    onConnection(socket, ++connections);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : '';
  const url = `http://127.0.0.1:${port}`;
  return { ...(await relayTo(url, options)), url, open, connections: () => connections };
}

/** Answers with these bytes once a request's head is there, then does `then` with the connection. */
export function saying(bytes: string, then: (socket: Socket) => void = () => undefined) {
  return (socket: Socket) => {
    socket.once('data', () => {
      socket.resume();
      socket.write(bytes, () => then(socket));
    });
  };
}

export async function textOf({ body }: RelayedAnswer): Promise<string> {
  const copies: Buffer[] = [];
  for await (const piece of body) copies.push(Buffer.from(piece));
  return Buffer.concat(copies).toString('utf8');
}

export async function bodyOf(req: IncomingMessage): Promise<string> {
  return (await buffer(req)).toString('utf8');
}
