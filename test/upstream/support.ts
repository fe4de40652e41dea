import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import type { CredentialSource, MlflowOptions } from '../../src/config/options.ts';
import { Credentials } from '../../src/upstream/credentials.ts';
import { MlflowClient } from '../../src/upstream/mlflow-client.ts';
import { Transport } from '../../src/upstream/transport.ts';

export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** What is no text is sent as JSON. */
  readonly body?: unknown;
}

export interface Upstream {
  readonly url: string;
  readonly asked: readonly Asked[];
}

/** A server on a free port of the loopback that answers what `answer` says; closed at the test's end. */
export async function serve(answer: (asked: Asked) => Answer): Promise<Upstream> {
  const asked: Asked[] = [];
  const handle = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const one = {
      method: req.method ?? '',
      url: req.url ?? '',
      headers: req.headers,
      body: await text(req),
    };
    asked.push(one);
    const { status = 200, headers = {}, body = {} } = answer(one);
    const isPlain = typeof body === 'string' || Buffer.isBuffer(body);
    res.writeHead(status, isPlain ? headers : { 'content-type': 'application/json', ...headers });
    res.end(isPlain ? body : JSON.stringify(body));
  };
  const server = createServer((req, res) => {
    handle(req, res).catch(() => res.destroy());
  });
  return { url: await listen(server), asked };
}

/** Its address on the loopback; closed at the test's end. */
export async function listen(server: Server, scheme = 'http'): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return `${scheme}://127.0.0.1:${address.port}`;
}

export const NO_CREDENTIAL: CredentialSource = { username: null, password: null, token: null };
export const DIRECT: Pick<MlflowOptions, 'tls' | 'proxy'> = {
  tls: { insecure: false, serverCertPath: null, clientCertPath: null },
  proxy: { http: null, https: null, noProxy: null },
};

export interface ClientSpec {
  readonly trusted: readonly string[];
  readonly credentials?: CredentialSource;
  readonly workspace?: string | null;
  readonly transport?: Pick<MlflowOptions, 'tls' | 'proxy'>;
}

/** Closed at the test's end. */
export async function clientFor(spec: ClientSpec): Promise<MlflowClient> {
  const transport = await Transport.open(spec.transport ?? DIRECT, { connections: 32 });
  onTestFinished(() => transport.close());
  return new MlflowClient({
    transport,
    credentials: new Credentials(spec.credentials ?? NO_CREDENTIAL),
    workspace: spec.workspace ?? null,
    trustedOrigins: new Set(spec.trusted),
  });
}

/** A call for the sidecar itself, or with a caller's own credential. */
export function call(authorization: string | null = null) {
  return { signal: new AbortController().signal, authorization, origin: null };
}
