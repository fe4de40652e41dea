import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { Arrivals } from '../../src/artifacts/arrivals.ts';
import type { FetchOptions } from '../../src/artifacts/fetch-options.ts';
import { PARTS } from '../../src/artifacts/large.ts';
import { DownloadLimits } from '../../src/artifacts/limits.ts';
import type { ArtifactSource, Entry, Progress, SmallFile } from '../../src/artifacts/source.ts';
import type { ListedFile } from '../../src/artifacts/walk.ts';
import { readWhole } from '../../src/artifacts/whole.ts';
import { EventBus } from '../../src/domain/events.ts';
import { SingleFlight } from '../../src/policy/single-flight.ts';
import type { Files } from '../contract/artifact-source.ts';

/** Its real path; removed at the test's end. */
export async function temporaryDirectory(): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'sidecar-artifacts-')));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

export async function writeFiles(base: string, files: Files): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(base, path)), { recursive: true });
    await writeFile(join(base, path), content);
  }
}

export function file(name: string, size: number | null = 1): Entry {
  return { name, isDir: false, size };
}

export function dir(name: string): Entry {
  return { name, isDir: true, size: null };
}

type Open = (path: string, signal: AbortSignal) => AsyncIterable<Uint8Array>;

/** Says and gives whatever it is told to. */
export class Scripted implements ArtifactSource {
  readonly root: string;
  readonly opened: string[] = [];
  readonly listed: string[] = [];
  closed = 0;
  readonly #listing: (dir: string) => readonly Entry[];
  readonly #open: Open;
  readonly #length: number | null;

  constructor(
    listing: Readonly<Record<string, readonly Entry[]>> | ((dir: string) => readonly Entry[]),
    open?: Open,
    root = 'r',
    length: number | null = null,
  ) {
    this.root = root;
    this.#length = length;
    this.#listing = typeof listing === 'function' ? listing : path => listing[path] ?? [];
    this.#open = open ?? (path => chunks(path));
  }

  async list(path: string): Promise<readonly Entry[]> {
    this.listed.push(path);
    return this.#listing(path);
  }

  async open(path: string, { signal }: { readonly signal: AbortSignal }) {
    this.opened.push(path);
    return {
      body: this.#open(path, signal),
      length: this.#length,
      hasEnd: true,
      etag: null,
      part: null,
      close: () => void this.closed++,
    };
  }

  async read(small: SmallFile, call: { readonly signal: AbortSignal }, progress: Progress) {
    return await readWhole(small, await this.open(small.path, call), progress);
  }
}

export async function* chunks(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

export function listedFiles(source: ArtifactSource, paths: readonly string[]): readonly ListedFile[] {
  return paths.map(path => ({ path, size: null, source }));
}

/** With a limit, a flight and an intake of its own, which only counts and hashes. */
export function fetchOptions(change: Partial<FetchOptions> = {}): FetchOptions {
  return {
    intake: intakeOf(counted),
    ...new DownloadLimits().forRun(),
    parts: PARTS,
    floor: { bytesPerSecond: 1, windowS: 30 },
    events: new EventBus(),
    flight: new SingleFlight(),
    arrivals: new Arrivals(),
    follower: { came: () => undefined, grows: () => undefined, whole: () => undefined },
    scope: 'own',
    edition: '1',
    force: false,
    ...change,
  };
}

/** Takes every file as a stream. */
export function intakeOf(take: FetchOptions['intake']['take']): FetchOptions['intake'] {
  return {
    take,
    takeBytes: async bytes => await take(chunksOf(bytes), bytes.byteLength),
    partial: async () => {
      throw new Error('No large file was expected.');
    },
    share: () => undefined,
  };
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function counted(body: AsyncIterable<Uint8Array>) {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of body) {
    hash.update(chunk);
    size += chunk.byteLength;
  }
  return { size, sha256: hash.digest('hex') };
}
