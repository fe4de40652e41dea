import { readFile } from 'node:fs/promises';
import { Agent, buildConnector, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import type { MlflowOptions } from '../config/options.ts';
import { answerFirst } from './answer-first.ts';
import type { Names } from './dns.ts';
import { systemNames } from './dns-system.ts';
import { contentLength } from './failure.ts';
import { type Receiver, type ResponseHead, receive } from './receive.ts';
import { Buffers, ResponseBody } from './response-body.ts';
import type { Upload } from './upload.ts';

/** A cache stands behind it, so a connection need not be waited for. */
const CONNECT_TIMEOUT_MS = 3_000;
/** A plain connection is kept for the next file of many only, which comes at once or never; servers close theirs after 2 s or more. */
const PLAIN_KEEP_ALIVE_MS = 1_000;
/** MLflow stages a whole file before it answers; whoever asks for less has a shorter timeout of its own. */
const FIRST_BYTE_TIMEOUT_MS = 120_000;

export interface TransportLimits {
  /** To one origin at once. Behind a proxy there are as many as requests under way. */
  readonly connections: number;
  readonly firstByteMs?: number;
}

/** One HTTP exchange; its whole duration is bounded by `signal`. */
export interface UpstreamRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Upload;
  /** Over plain HTTP, too: see `reset` below. */
  readonly keepAlive?: boolean;
  /** Its connection ends with it, over TLS, too. */
  readonly isLast?: true;
  /** Milliseconds until the head of its answer, instead of the transport's. */
  readonly firstByteMs?: number;
  /** Called when there is a connection, before the first byte goes out on it. */
  readonly onSending?: () => void;
  readonly signal: AbortSignal;
}

/** With its body still to be read, or closed. */
export type UpstreamResponse = ResponseHead & { readonly body: ResponseBody };

/** All connections to MLflow and its artifact servers, with MLflow's own TLS and proxy settings. */
export class Transport {
  readonly #http: Dispatcher;
  readonly #https: Dispatcher;
  readonly #firstByteMs: number;
  readonly #buffers = new Buffers();

  private constructor(http: Dispatcher, https: Dispatcher, firstByteMs: number) {
    this.#http = http;
    this.#https = https;
    this.#firstByteMs = firstByteMs;
  }

  /** @throws Error if a certificate file cannot be read */
  static async open(
    options: Pick<MlflowOptions, 'tls' | 'proxy'>,
    { connections, firstByteMs = FIRST_BYTE_TIMEOUT_MS }: TransportLimits,
    names: Names = systemNames(),
  ): Promise<Transport> {
    const toProxy = { timeout: CONNECT_TIMEOUT_MS, lookup: names.lookup };
    const connect = { ...toProxy, ...(await tlsOptions(options.tls)) };
    // To find out whether a server speaks HTTP/2 all requests wait for one connection: where that hangs, each in turn for 3 s.
    const allowH2 = false;
    const limits = { connect: answerFirst(buildConnector({ ...connect, allowH2 })), connections, allowH2 };
    const via = (proxy: string | null, more: Agent.Options = {}) => {
      if (proxy === null) return new Agent({ ...limits, ...more });
      const noProxy = options.proxy.noProxy ?? '';
      return new EnvHttpProxyAgent({
        ...limits,
        ...more,
        httpProxy: proxy,
        httpsProxy: proxy,
        noProxy,
        requestTls: connect,
        proxyTls: toProxy,
      });
    };
    const plain = { keepAliveTimeout: PLAIN_KEEP_ALIVE_MS, keepAliveMaxTimeout: PLAIN_KEEP_ALIVE_MS };
    return new Transport(via(options.proxy.http, plain), via(options.proxy.https), firstByteMs);
  }

  /** Redirects are not followed: an answer from somewhere else is not MLflow's. */
  async request(request: UpstreamRequest): Promise<UpstreamResponse> {
    const { promise, resolve, reject } = Promise.withResolvers<UpstreamResponse>();
    let body: ResponseBody | null = null;
    const receiver: Receiver = {
      head: (head, flow) => {
        body = new ResponseBody(contentLength(head), flow, this.#buffers);
        resolve({ ...head, body });
      },
      data: chunk => body?.push(chunk),
    };
    this.receive(request, receiver).then(
      () => body?.finish(),
      error => {
        reject(error);
        body?.fail(error);
      },
    );
    return await promise;
  }

  /** The same for a small answer, which goes straight to the receiver. */
  async receive(request: UpstreamRequest, receiver: Receiver): Promise<void> {
    const dispatcher = isPlain(request.url) ? this.#http : this.#https;
    const { signal, firstByteMs = this.#firstByteMs, onSending } = request;
    await receive(dispatcher, optionsOf(request), receiver, {
      signal,
      firstByteMs,
      ...(onSending === undefined ? {} : { onSending }),
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#http.destroy(), this.#https.destroy()]);
  }
}

function isPlain(url: URL): boolean {
  return url.protocol === 'http:';
}

function optionsOf(request: UpstreamRequest): Dispatcher.DispatchOptions & { readonly origin: string } {
  return {
    origin: request.url.origin,
    path: request.url.pathname + request.url.search,
    method: request.method,
    headers: { 'accept-encoding': 'identity', ...request.headers },
    body: request.body ?? null,
    // Ours hold behind a proxy, too, and are not begun again by each 1xx or each chunk: the first byte's, the progress floor, deadlines.
    headersTimeout: 0,
    bodyTimeout: 0,
    // A kept-alive plain connection costs 45 ms an answer (two writes against delayed ACK), a fresh one 5 ms; with TLS the
    // handshake costs more than that. Many files at once have others on their way meanwhile, and save the connecting.
    reset: request.isLast === true || (isPlain(request.url) && request.keepAlive !== true),
  };
}

async function tlsOptions(tls: MlflowOptions['tls']): Promise<Record<string, unknown>> {
  const client = tls.clientCertPath === null ? null : await readFile(tls.clientCertPath);
  return {
    rejectUnauthorized: !tls.insecure,
    ...(tls.serverCertPath === null ? {} : { ca: await readFile(tls.serverCertPath) }),
    ...(client === null ? {} : { cert: client, key: client }),
  };
}
