import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/domain/clock.ts';
import { EventBus } from '../../src/domain/events.ts';
import type { ArtifactRoot } from '../../src/domain/version.ts';
import type { Arriving } from '../../src/reload/arriving.ts';
import type { ArrivingFile } from '../../src/reload/arriving-file.ts';
import { Fetcher, type Wanted } from '../../src/reload/fetcher.ts';
import type { Store } from '../../src/store/store.ts';
import { OWN, ofVersion, openStore } from '../store/support.ts';
import { clientFor, listen } from '../upstream/support.ts';

export const MIB = 1024 * 1024;
export const ROOT: ArtifactRoot = ['mlflow-artifacts:/m'];

interface Asked {
  readonly path: string;
  readonly range: string | undefined;
  readonly workspace: string | string[] | undefined;
}

/** What the server does to one answer. */
interface Act {
  readonly status?: number;
  /** Sends so many bytes of the body, and the rest once this has resolved. */
  readonly hold?: { readonly after: number; readonly until: Promise<void> };
  /** Sends so many bytes of the body, and ends the connection. */
  readonly cutAfter?: number;
  /** Sends a byte more than there is, after a while, and does not say how many. */
  readonly tooLong?: true;
  readonly etag?: null;
}

/** An artifact server that holds some files in directories of one level. */
class Server {
  readonly asked: Asked[] = [];
  readonly files: Map<string, Buffer>;
  /** Of which the listing does not say how large they are. */
  readonly unsized = new Set<string>();
  /** `n` counts what was asked for this path before. */
  act: (path: string, n: number) => Act = () => ({});
  readonly #server = createServer((req, res) => void this.#answer(req, res).catch(() => res.destroy()));

  /** @param files by their paths, the directory first */
  constructor(files: Readonly<Record<string, Buffer>>) {
    this.files = new Map(Object.entries(files));
  }

  async listen(): Promise<string> {
    return await listen(this.#server);
  }

  /** The paths that bytes were asked of. */
  get fetched(): readonly string[] {
    return this.asked.map(({ path }) => path).filter(path => !path.startsWith('?'));
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', 'http://server');
    const dir = url.searchParams.get('path');
    const path = dir === null ? (url.pathname.split('/artifacts/')[1] ?? '') : `?${dir}`;
    const n = this.asked.filter(one => one.path === path).length;
    this.asked.push({ path, range: req.headers.range, workspace: req.headers['x-mlflow-workspace'] });
    const act = this.act(path, n);
    if (dir !== null) return void res.end(JSON.stringify({ files: this.#listing(dir) }));
    const content = this.files.get(path);
    if (content === undefined || act.status !== undefined)
      return void res.writeHead(act.status ?? 404).end('{}');
    await this.#send(req, res, content, act);
  }

  #listing(dir: string): readonly object[] {
    return [...this.files]
      .filter(([path]) => path.startsWith(`${dir}/`))
      .map(([path, content]) => ({
        path: path.slice(dir.length + 1),
        is_dir: false,
        ...(this.unsized.has(path) ? {} : { file_size: content.byteLength }),
      }));
  }

  async #send(req: IncomingMessage, res: ServerResponse, content: Buffer, act: Act): Promise<void> {
    const etag = act.etag === undefined ? `"${sha256(content).slice(0, 16)}"` : null;
    const ifRange = req.headers['if-range'];
    const isPart = req.headers.range !== undefined && (ifRange === undefined || ifRange === etag);
    const from = isPart ? Number(/^bytes=(\d+)-/.exec(req.headers.range ?? '')?.[1]) : 0;
    const body = content.subarray(from);
    res.writeHead(isPart ? 206 : 200, {
      ...(act.tooLong ? {} : { 'content-length': body.byteLength }),
      ...(etag === null ? {} : { etag }),
      ...(isPart ? { 'content-range': `bytes ${from}-${content.byteLength - 1}/${content.byteLength}` } : {}),
    });
    if (act.tooLong) return void res.write(body, () => setTimeout(() => res.end('.'), 50));
    if (act.cutAfter !== undefined)
      return void res.write(body.subarray(0, act.cutAfter), () => setTimeout(() => res.destroy(), 5));
    if (act.hold === undefined) return void res.end(body);
    res.write(body.subarray(0, act.hold.after));
    await act.hold.until;
    res.end(body.subarray(act.hold.after));
  }
}

export interface Stand {
  readonly server: Server;
  readonly fetcher: Fetcher;
  readonly store: Store;
  readonly dir: string;
  /** What it brings has come, or failed, before the store is closed. */
  readonly arrive: (change?: Partial<Wanted>) => Arriving;
}

/** A server, and a fetcher that brings what it has into an empty store. */
export async function setUp(
  files: Readonly<Record<string, Buffer>>,
  clock: Clock = systemClock,
): Promise<Stand> {
  const server = new Server({ 'm/MLmodel': Buffer.from('flavors: {}\n'), ...files });
  const url = await server.listen();
  const { store, dir } = await openStore();
  const stopping = new AbortController();
  const fetcher = new Fetcher({
    client: await clientFor({ trusted: [url] }),
    events: new EventBus(),
    trackingUri: url,
    fileRoots: [],
    floor: { bytesPerSecond: 1, windowS: 60 },
    clock,
    stop: stopping.signal,
  });
  const arrive = (change?: Partial<Wanted>) => {
    const arriving = fetcher.arrive(store, wanted(change));
    onTestFinished(async () => {
      stopping.abort(new Error('The test is over.'));
      await arriving.done.catch(() => undefined);
    });
    return arriving;
  };
  return { server, fetcher, store, dir, arrive };
}

export function wanted(change: Partial<Wanted> = {}): Wanted {
  const caller = { requestId: 'r-1', airflow: {}, authorization: null };
  return {
    scope: OWN,
    root: ofVersion(ROOT),
    isGrowing: false,
    authorization: null,
    force: false,
    origin: { runId: 'r-1', modelUri: 'models:/churn/1', caller },
    took: () => undefined,
    brought: () => undefined,
    follow: () => undefined,
    ...change,
  };
}

export const STAYS = new AbortController().signal;

/** All bytes of a part of a file. */
export async function bytesOf(file: ArrivingFile, from = 0, to: number | null = null): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of file.read(from, to, STAYS)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** Reads a file step by step; leaves at the test's end at the latest. */
export class Reader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #got: Buffer[] = [];

  constructor(file: ArrivingFile, signal = STAYS) {
    this.#pieces = file.read(0, null, signal)[Symbol.asyncIterator]();
    onTestFinished(() => this.leave());
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#got);
  }

  /** Reads on until it has at least so many bytes, or all. */
  async upTo(bytes: number): Promise<void> {
    for (let has = this.bytes.byteLength; has < bytes; ) {
      const next = await this.#pieces.next();
      if (next.done === true) return;
      this.#got.push(Buffer.from(next.value));
      has += next.value.byteLength;
    }
  }

  async leave(): Promise<void> {
    await this.#pieces.return?.();
  }
}

export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
