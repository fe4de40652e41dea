import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';
import { fetchLarge, type LargeFile, type PartLimits } from '../../src/artifacts/large.ts';
import { MlflowArtifacts } from '../../src/artifacts/mlflow-artifacts.ts';
import { Changed } from '../../src/artifacts/range.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { EventBus } from '../../src/domain/events.ts';
import { FairLimit } from '../../src/policy/fair-limit.ts';
import { ProgressFloor } from '../../src/policy/progress-floor.ts';
import type { Store } from '../../src/store/store.ts';
import { call, clientFor, listen } from '../upstream/support.ts';

export const MIB = 1024 * 1024;

export interface Asked {
  /** Null where the whole file was asked for. */
  readonly range: { readonly from: number; readonly to: number } | null;
  readonly ifRange: string | null;
}

/** What the server does to one answer; by default what MLflow does. */
export interface Act {
  /** Ends the connection after so many bytes of the body. */
  readonly cutAfter?: number;
  /** With `cutAfter`: sends nothing more, and leaves the connection open. */
  readonly stalls?: true;
  readonly etag?: string | null;
  readonly contentRange?: string;
  /** Sends fewer bytes than the range has, and says so. */
  readonly short?: boolean;
  readonly ignoresRange?: boolean;
  readonly ignoresIfRange?: boolean;
  readonly status?: number;
}

/** A server of one file that may change, on a real socket. */
export class FileServer {
  readonly asked: Asked[] = [];
  content: Buffer;
  act: (asked: Asked, n: number) => Act = () => ({});
  readonly #server = createServer((req, res) => this.#answer(req, res));

  constructor(content: Buffer) {
    this.content = content;
  }

  async source(): Promise<MlflowArtifacts> {
    const url = await listen(this.#server);
    const client = await clientFor({ trusted: [url] });
    return new MlflowArtifacts(client, new EventBus(), `${url}/api/2.0/mlflow-artifacts/artifacts`, ['m']);
  }

  get etag(): string {
    return `"${this.content.subarray(0, 8).toString('hex')}"`;
  }

  #answer(req: IncomingMessage, res: ServerResponse): void {
    const found = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? '');
    const range = found === null ? null : { from: Number(found[1]), to: Number(found[2]) };
    const ifRange = req.headers['if-range'] ?? null;
    const asked = { range, ifRange: typeof ifRange === 'string' ? ifRange : null };
    const act = this.act(asked, this.asked.push(asked) - 1);
    const isPart =
      range !== null &&
      act.ignoresRange !== true &&
      (act.ignoresIfRange === true || ifRange === null || ifRange === this.etag);
    const size = this.content.length;
    const to = range === null ? size - 1 : Math.min(range.to, size - 1) - (act.short === true ? 1 : 0);
    const body = isPart ? this.content.subarray(range.from, to + 1) : this.content;
    const etag = act.etag === undefined ? this.etag : act.etag;
    res.writeHead(act.status ?? (isPart ? 206 : 200), {
      'content-length': body.length,
      ...(etag === null ? {} : { etag }),
      ...(isPart ? { 'content-range': act.contentRange ?? `bytes ${range.from}-${to}/${size}` } : {}),
    });
    if (act.cutAfter === undefined) res.end(body);
    else if (act.stalls) res.write(body.subarray(0, act.cutAfter));
    else res.write(body.subarray(0, act.cutAfter), () => setTimeout(() => res.destroy(), 5));
  }
}

export interface Driven {
  readonly sha256: string;
  readonly size: number;
}

export interface Drive {
  readonly size: number;
  readonly parts: PartLimits;
  readonly force?: boolean;
  readonly signal?: AbortSignal;
  readonly scope?: string;
}

/** One run's download of the server's file into the store, retried at once instead of seconds later. */
export async function drive(store: Store, source: MlflowArtifacts, spec: Drive): Promise<Driven> {
  const intake = await store.intake();
  const limits = { bytesPerSecond: 1, windowS: 60 };
  const floor = new ProgressFloor(limits, () => undefined);
  onTestFinished(() => floor.stop());
  const { size, parts, force = false, scope = 'own' } = spec;
  const identity = JSON.stringify([scope, source.root, 'big.bin']);
  const large = await intake.partial({ identity, total: size }, force);
  const file: LargeFile = {
    listed: { path: 'big.bin', size, source },
    size,
    growing: large.growing,
    parts,
    slots: new FairLimit(16).forRun(),
    floor,
    limits,
    came: () => undefined,
    retry: async (under, work) =>
      await thrice(
        under.signal,
        signal => work({ ...under, signal }),
        error => !(error instanceof Changed),
      ),
  };
  const asks = { ...call(), signal: spec.signal ?? new AbortController().signal };
  try {
    await thrice(
      asks.signal,
      signal => fetchLarge(file, { ...asks, signal }),
      error => error instanceof Changed,
    );
    const blob = await large.take();
    await intake.commit([blob]);
    return blob;
  } catch (error) {
    await large.leave();
    throw error;
  } finally {
    await intake.close();
    floor.stop();
  }
}

async function thrice(
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
  isTransient: (error: unknown) => boolean,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(signal);
    } catch (error) {
      signal.throwIfAborted();
      const isOver = attempt === 3 || !isTransient(error) || !(error instanceof SidecarError);
      if (isOver) throw error;
    }
  }
}

export function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
