import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { createServer as createRawServer, type Server, type Socket } from 'node:net';
import type { Certificate } from './certificates.ts';

/** What a port can do to whoever connects. */
export type PortFault =
  /** Nobody listens. */
  | { readonly kind: 'refused' }
  /** Takes the connection and never speaks. */
  | { readonly kind: 'handshake_stall' }
  /** Shows another certificate. */
  | { readonly kind: 'certificate'; readonly certificate: Certificate };

export function isOfPort<T extends { readonly kind: string }>(
  fault: T,
): fault is Extract<T, { readonly kind: PortFault['kind'] }> {
  return ['refused', 'handshake_stall', 'certificate'].includes(fault.kind);
}

const OPTIONS = { keepAliveTimeout: 60_000, requestTimeout: 0 };

/** A port on the loopback that can stop listening and come back under the same number. */
export class Listener {
  readonly #handle: RequestListener;
  readonly #certificate: Certificate | null;
  readonly #sockets = new Set<Socket>();
  #server: Server | null = null;
  #isWell = false;
  #port = 0;

  /** @param certificate to speak TLS with */
  constructor(handle: RequestListener, certificate: Certificate | null) {
    this.#handle = handle;
    this.#certificate = certificate;
  }

  get url(): string {
    return `${this.#certificate === null ? 'http' : 'https'}://127.0.0.1:${this.#port}`;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#sockets.size;
  }

  async open(): Promise<void> {
    if (this.#isWell) return;
    await this.shut();
    await this.#listen(this.#serving(this.#certificate));
    this.#isWell = true;
  }

  /** Ends every connection, except the one from port `except`, and is in trouble for new ones. */
  async turn(fault: PortFault, except: number | null = null): Promise<void> {
    this.#stop(except);
    if (fault.kind === 'handshake_stall') await this.#listen(createRawServer());
    if (fault.kind === 'certificate') await this.#listen(this.#serving(fault.certificate));
  }

  /** Ends every connection and refuses new ones. */
  async shut(): Promise<void> {
    const closed = this.#server === null ? null : once(this.#server, 'close');
    this.#stop(null);
    await closed;
  }

  /** Ends the connections, and goes on listening. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #stop(except: number | null): void {
    this.#server?.close();
    this.#server = null;
    this.#isWell = false;
    for (const socket of this.#sockets) if (socket.remotePort !== except) socket.destroy();
  }

  #serving(certificate: Certificate | null): Server {
    if (certificate === null) return createServer(OPTIONS, this.#handle);
    const { cert, key } = certificate;
    return createSecureServer({ ...OPTIONS, cert, key }, this.#handle);
  }

  async #listen(server: Server): Promise<void> {
    server.on('connection', socket => {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => socket.destroy());
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.listen({ port: this.#port, host: '127.0.0.1', backlog: 1_024 });
    await once(server, 'listening');
    const address = server.address();
    if (address !== null && typeof address === 'object') this.#port = address.port;
    this.#server = server;
  }
}
