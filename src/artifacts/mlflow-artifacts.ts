import { z } from 'zod';
import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Breaker } from '../policy/breaker.ts';
import { throughOutages } from '../policy/patience.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import {
  contentLength,
  isDroppedConnection,
  reasonOf,
  singleHeader,
  statusError,
} from '../upstream/failure.ts';
import { type AnswerLimits, type JsonAnswer, longAnswers, readJson } from '../upstream/json.ts';
import type { Call, MlflowClient } from '../upstream/mlflow-client.ts';
import type { ResponseHead } from '../upstream/receive.ts';
import { assertComplete } from './complete.ts';
import { Changed, partOf, rangeHeaders, strongEtag } from './range.ts';
import {
  type ArtifactSource,
  type Entry,
  MAX_ENTRIES,
  type OpenFile,
  type Progress,
  type SmallFile,
  type WantedRange,
} from './source.ts';
import { Whole } from './whole.ts';

const LISTING_LIMITS: AnswerLimits = {
  // As many names as are taken, of 300 letters each.
  maxBytes: 16 * 1024 * 1024,
  code: 'unsafe_path',
  wanted: {
    members: {
      files: { elements: { members: { path: 'all', is_dir: 'all', file_size: 'all' } }, most: MAX_ENTRIES },
    },
  },
};
/** An object store behind MLflow may list slowly; the run's deadline still stands over it. */
const LISTING_PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: 30_000, budgetMs: 120_000 };
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_timeout',
  'mlflow_error',
]);

/** MLflow leaves the list out where it is empty, and has nothing else to say. */
const Listing = z.union([z.strictObject({}), z.object({ files: z.array(z.unknown()).max(MAX_ENTRIES) })]);
const ListedFile = z.object({
  path: z.string(),
  is_dir: z.boolean().nullish(),
  file_size: z.union([z.number().int().nonnegative(), z.string().regex(/^\d+$/).transform(Number)]).nullish(),
});

/** MLflow's own artifact server, for `mlflow-artifacts:` and `http(s):` roots. */
export class MlflowArtifacts implements ArtifactSource {
  readonly root: string;
  readonly #client: MlflowClient;
  readonly #events: EventBus;
  readonly #endpoint: string;
  readonly #segments: readonly string[];
  readonly breaker: Breaker | undefined;

  /**
   * @param endpoint the address up to and with `/mlflow-artifacts/artifacts`
   * @param segments the decoded segments of the root below it
   * @param breaker of the server at the endpoint
   */
  constructor(
    client: MlflowClient,
    events: EventBus,
    endpoint: string,
    segments: readonly string[],
    breaker?: Breaker,
  ) {
    this.#client = client;
    this.#events = events;
    this.#endpoint = endpoint;
    this.#segments = segments;
    this.breaker = breaker;
    this.root = [endpoint, ...segments].join('/');
  }

  async list(dir: string, call: Call): Promise<readonly Entry[]> {
    const what = `The listing of ${this.#name(dir)}`;
    const url = new URL(this.#endpoint);
    url.searchParams.set('path', [...this.#segments, ...segmentsOf(dir)].join('/'));
    const { patience, together, onTryFailed: onWait } = call;
    const hooks = {
      ...{ breaker: this.breaker, item: this.root, together, isPatient: patience !== undefined },
      isTransient: (error: SidecarError) => TRANSIENT.has(error.code),
      timeoutError: (ms: number) =>
        new SidecarError('artifact_timeout', `${what} did not come within ${ms / 1_000} s.`),
      onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
        call.onTryFailed?.(error);
        this.#events.emit({ type: 'try_failed', what, attempt, origin: call.origin, error, retryInMs });
      },
    };
    const list = async (signal: AbortSignal) => {
      const response = await this.#client.send(what, { url, method: 'GET' }, { ...call, signal });
      const answer = await readJson(what, response, LISTING_LIMITS, signal);
      if (answer.status >= 400) throw missing(what, answer.message);
      return await entriesOf(answer, what);
    };
    const inTries = () => retry(LISTING_PLAN, hooks, call.signal, list);
    return await throughOutages({ ...hooks, patience, signal: call.signal, onWait }, inTries);
  }

  async open(path: string, call: Call, range?: WantedRange): Promise<OpenFile> {
    const what = `The artifact ${this.#name(path)}`;
    const request = { url: this.#address(path), method: 'GET' as const, headers: rangeHeaders(range) };
    const response = await this.#client.send(what, request, call).catch(asArtifactError);
    try {
      assertGiven(what, response, range !== undefined);
    } catch (error) {
      response.body.close();
      throw error;
    }
    return {
      body: guarded(what, response.body, call.signal),
      length: contentLength(response),
      hasEnd: contentLength(response) !== null || isChunked(response),
      etag: strongEtag(singleHeader(response.headers['etag'])),
      part: partOf(what, response),
      close: () => response.body.close(),
    };
  }

  async read({ path, size, isOneOfMany }: SmallFile, call: Call, progress: Progress): Promise<Uint8Array> {
    const what = `The artifact ${this.#name(path)}`;
    const request = { url: this.#address(path), method: 'GET' as const };
    const whole = new Whole(size);
    let isAnswered = false;
    const receiver = {
      head: (head: ResponseHead) => {
        isAnswered = true;
        assertGiven(what, head, false);
        assertComplete({ path, size }, { length: contentLength(head), hasEnd: true });
        progress.answered();
      },
      data: (chunk: Uint8Array) => {
        progress.came(chunk.byteLength);
        whole.take(chunk);
      },
      broken: (error: unknown) => brokenOff(what, error),
    };
    const receive = (keepAlive: boolean) =>
      this.#client.receive(what, { ...request, keepAlive }, call, receiver);
    const again = (error: unknown) => {
      // Somebody on the way closed the kept connection just then, which says nothing about the server.
      if (!isOneOfMany || isAnswered || !isDroppedConnection(error)) throw error;
      return receive(false);
    };
    await receive(isOneOfMany).catch(again).catch(asArtifactError);
    return whole.end();
  }

  #address(path: string): URL {
    const segments = [...this.#segments, ...segmentsOf(path)].map(encodeURIComponent);
    return new URL(`${this.#endpoint}/${segments.join('/')}`);
  }

  #name(path: string): string {
    return [...this.#segments, ...segmentsOf(path)].join('/');
  }
}

function segmentsOf(path: string): readonly string[] {
  return path === '' ? [] : path.split('/');
}

function isChunked(response: ResponseHead): boolean {
  return /\bchunked\b/i.test(singleHeader(response.headers['transfer-encoding']) ?? '');
}

function missing(what: string, said: string | null): SidecarError {
  return new SidecarError('artifact_missing', `${what} is not there${said === null ? '' : ` (${said})`}.`);
}

async function* guarded(
  what: string,
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    signal.throwIfAborted();
    throw brokenOff(what, error);
  }
}

function brokenOff(what: string, error: unknown): SidecarError {
  return new SidecarError('artifact_corrupt', `${what} broke off: ${reasonOf(error)}.`, {
    cause: error,
    serverFault: true,
  });
}

function asArtifactError(error: unknown): never {
  if (!(error instanceof SidecarError) || error.code !== 'mlflow_timeout') throw error;
  throw new SidecarError('artifact_timeout', error.message, { cause: error });
}

/** Whoever answers in MLflow's place is not taken for an empty directory: a file would be missing. */
async function entriesOf({ body, message }: JsonAnswer, what: string): Promise<readonly Entry[]> {
  const listing = Listing.safeParse(body).data;
  if (listing === undefined) throw noListing(what, message);
  if (!('files' in listing)) return [];
  const entries: Entry[] = [];
  for (const listed of listing.files) {
    await longAnswers.next();
    const file = ListedFile.safeParse(listed).data;
    if (file === undefined) throw noListing(what, null);
    const isDir = file.is_dir ?? false;
    entries.push({ name: file.path, isDir, size: isDir ? null : (file.file_size ?? null) });
  }
  return entries;
}

function noListing(what: string, said: string | null): SidecarError {
  const words = said === null ? '' : ` It says: "${said}".`;
  return new SidecarError('mlflow_error', `${what} is not one that MLflow gives.${words}`);
}

function assertGiven(what: string, response: ResponseHead, isRangeAsked: boolean): void {
  const status = response.statusCode;
  const isGiven = status === 200 || (status === 206 && isRangeAsked);
  const encoding = singleHeader(response.headers['content-encoding']) ?? 'identity';
  if (isGiven && encoding === 'identity') return;
  if (status === 404) throw missing(what, null);
  if (status === 416 && isRangeAsked) throw new Changed(what);
  if (status >= 300 && status < 400) {
    throw new SidecarError(
      'unsafe_path',
      `${what} redirects to another address (HTTP ${status}), which is not followed.`,
    );
  }
  if (isGiven) {
    throw new SidecarError(
      'artifact_corrupt',
      `${what} came compressed (${encoding}), which was not asked for.`,
    );
  }
  throw statusError(what, response, null);
}
