import { readFile } from 'node:fs/promises';
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import type { MlflowOptions } from '../config/options.ts';
import type { Names } from './dns.ts';
import { systemNames } from './dns-system.ts';

/** A cache stands behind it, so a connection need not be waited for. */
const CONNECT_TIMEOUT_MS = 3_000;
/** Twice the files in flight: callers' registry requests find a connection beside a download. */
const MAX_CONNECTIONS = 32;
/** MLflow stages a whole file before it answers; whoever asks for less has a shorter timeout of its own. */
const FIRST_BYTE_TIMEOUT_MS = 120_000;

/** One HTTP exchange; its whole duration is bounded by `signal`. */
export interface UpstreamRequest {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export type UpstreamResponse = Dispatcher.ResponseData;

/** All connections to MLflow and its artifact servers, with MLflow's own TLS and proxy settings. */
export class Transport {
  readonly #http: Dispatcher;
  readonly #https: Dispatcher;

  private constructor(http: Dispatcher, https: Dispatcher) {
    this.#http = http;
    this.#https = https;
  }

  /** @throws Error if a certificate file cannot be read */
  static async open(
    options: Pick<MlflowOptions, 'tls' | 'proxy'>,
    names: Names = systemNames(),
  ): Promise<Transport> {
    const toProxy = { timeout: CONNECT_TIMEOUT_MS, lookup: names.lookup };
    const connect = { ...toProxy, ...(await tlsOptions(options.tls)) };
    const limits = {
      connect,
      connections: MAX_CONNECTIONS,
      headersTimeout: FIRST_BYTE_TIMEOUT_MS,
      // It starts again with every chunk, so a trickle never trips it; deadlines and the progress floor do.
      bodyTimeout: 0,
    };
    const via = (proxy: string | null) => {
      if (proxy === null) return new Agent(limits);
      const noProxy = options.proxy.noProxy ?? '';
      return new EnvHttpProxyAgent({
        ...limits,
        httpProxy: proxy,
        httpsProxy: proxy,
        noProxy,
        requestTls: connect,
        proxyTls: toProxy,
      });
    };
    return new Transport(via(options.proxy.http), via(options.proxy.https));
  }

  /** Redirects are not followed: an answer from somewhere else is not MLflow's. */
  request(request: UpstreamRequest): Promise<UpstreamResponse> {
    const isPlain = request.url.protocol === 'http:';
    return (isPlain ? this.#http : this.#https).request({
      origin: request.url.origin,
      path: request.url.pathname + request.url.search,
      method: request.method,
      headers: { 'accept-encoding': 'identity', ...request.headers },
      body: request.body ?? null,
      signal: request.signal,
      // A kept-alive plain connection costs 45 ms an answer (two writes against delayed ACK), a fresh one 5 ms; with TLS
      // the handshake costs more than that.
      reset: isPlain,
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#http.destroy(), this.#https.destroy()]);
  }
}

async function tlsOptions(tls: MlflowOptions['tls']): Promise<Record<string, unknown>> {
  const client = tls.clientCertPath === null ? null : await readFile(tls.clientCertPath);
  return {
    rejectUnauthorized: !tls.insecure,
    ...(tls.serverCertPath === null ? {} : { ca: await readFile(tls.serverCertPath) }),
    ...(client === null ? {} : { cert: client, key: client }),
  };
}

/** Frees the connection of an answer that nobody reads. */
export function discard(response: UpstreamResponse): void {
  response.body.on('error', () => undefined).destroy();
}
