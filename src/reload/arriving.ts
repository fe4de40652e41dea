import { join } from 'node:path';
import type { Follower, Readable } from '../artifacts/arrivals.ts';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Phases } from '../domain/events.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import { inLine, untilAborted } from '../policy/abort.ts';
import type { Layout } from '../store/disk/layout.ts';
import type { Intake } from '../store/intake/intake.ts';
import { readPart } from '../store/intake/piece-reader.ts';
import type { FetchedRoot } from '../store/records/manifest-file.ts';
import { type ArrivingFile, FileOnItsWay, type Whereabouts } from './arriving-file.ts';

/** What a download ends with. */
export interface Obtained {
  readonly fetched: FetchedRoot;
  readonly source: 'mlflow' | 'cache';
  readonly phases: Phases;
}

/** In bytes; null where the listing does not say. */
interface Sized {
  readonly path: string;
  readonly size: number | null;
}

/** A version on its way into the store, for whoever wants its files before all of them are there. */
export interface Arriving {
  /** All its files, once they are listed. Rejects with the `SidecarError` why they could not be. */
  readonly listed: Promise<readonly Sized[]>;
  /** By the monotonic clock, in ms: when the download began, or last got its listing, some bytes or a file. */
  readonly lastProgressAt: number;
  /** Why the last try of something failed, though a later one may yet succeed. */
  readonly lastFailure: SidecarError | null;
  /** Whether it is one of `listed`, once they are. */
  has(path: string): boolean;
  /** @param path one of `listed` */
  file(path: string): ArrivingFile;
  /** Once all of it is in the store. Rejects with the `SidecarError` why it is not. */
  readonly done: Promise<Obtained>;
}

interface Known {
  size: number | null;
  /** Where it can be read; null while it cannot. */
  place: Readable | null;
}

/** What a download tells of itself, for any number of readers. */
export class ArrivingVersion implements Arriving, Follower, Whereabouts {
  readonly #layout: Layout;
  readonly #clock: Clock;
  readonly #failures: { readonly last: SidecarError | null };
  readonly #listing = Promise.withResolvers<readonly Sized[]>();
  readonly #end = Promise.withResolvers<Obtained>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #files = new Map<string, Known>();
  #intake: Intake | null = null;
  /** Its directory. */
  #snapshot: string | null = null;
  #failure: SidecarError | null = null;
  #lastProgressAt: number;

  constructor(layout: Layout, clock: Clock, failures: { readonly last: SidecarError | null }) {
    this.#layout = layout;
    this.#clock = clock;
    this.#failures = failures;
    this.#lastProgressAt = clock.monotonic();
    // Perhaps nobody listens.
    for (const told of [this.listed, this.done]) told.catch(() => undefined);
  }

  get listed(): Promise<readonly Sized[]> {
    return this.#listing.promise;
  }

  get done(): Promise<Obtained> {
    return this.#end.promise;
  }

  get lastProgressAt(): number {
    return this.#lastProgressAt;
  }

  get lastFailure(): SidecarError | null {
    return this.#failures.last;
  }

  has(path: string): boolean {
    return this.#files.has(path);
  }

  file(path: string): ArrivingFile {
    return new FileOnItsWay(this, path);
  }

  /** The files are known, and come into `intake`; more than once where the download begins again. */
  lists(files: readonly Sized[], intake: Intake): void {
    this.#intake = intake;
    this.#know(files);
    this.came();
  }

  came(): void {
    this.#lastProgressAt = this.#clock.monotonic();
  }

  grows(path: string, growing: Readable | null): void {
    this.#put(path, growing);
  }

  whole(file: ManifestFile): void {
    this.came();
    const intake = this.#intake;
    if (intake === null) return;
    this.#put(file.path, { read: (from, to, signal) => intake.read(file, from, to, signal) }, file.size);
  }

  /** All is in the store. */
  arrived(obtained: Obtained): void {
    const { manifest, snapshot } = obtained.fetched;
    this.#snapshot = this.#layout.snapshot(snapshot);
    this.#know(manifest.files);
    this.#end.resolve(obtained);
  }

  failed(error: unknown): void {
    this.#failure = toSidecarError(error);
    this.#listing.reject(this.#failure);
    this.#end.reject(this.#failure);
    this.#wakeAll();
  }

  async place(path: string, tried: Readable | null, signal: AbortSignal): Promise<Readable> {
    await untilAborted(this.listed, signal);
    for (;;) {
      const known = this.#known(path);
      const place = this.#snapshot === null ? known.place : inSnapshot(this.#snapshot, path, known.size ?? 0);
      if (place !== null && place !== tried) return place;
      await inLine(this.#lineOf(path), signal);
    }
  }

  isAt(path: string, place: Readable): boolean {
    return this.#files.get(path)?.place === place;
  }

  async size(path: string, signal: AbortSignal): Promise<number> {
    await untilAborted(this.listed, signal);
    for (;;) {
      const { size } = this.#known(path);
      if (size !== null) return size;
      await inLine(this.#lineOf(path), signal);
    }
  }

  #know(files: readonly Sized[]): void {
    this.#files = new Map(files.map(({ path, size }) => [path, { size, place: null }]));
    this.#listing.resolve(files.map(({ path, size }) => ({ path, size })));
    this.#wakeAll();
  }

  #known(path: string): Known {
    if (this.#failure !== null) throw this.#failure;
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    throw new SidecarError('artifact_missing', `The version has no file ${path}.`);
  }

  #put(path: string, place: Readable | null, size: number | null = null): void {
    const known = this.#files.get(path);
    if (known === undefined) return;
    known.place = place;
    known.size ??= size;
    this.#wake(path);
  }

  #lineOf(path: string): Set<() => void> {
    const line = this.#waiting.get(path) ?? new Set();
    this.#waiting.set(path, line);
    return line;
  }

  #wake(path: string): void {
    for (const wake of this.#waiting.get(path) ?? []) wake();
    this.#waiting.delete(path);
  }

  #wakeAll(): void {
    for (const path of this.#waiting.keys()) this.#wake(path);
  }
}

function inSnapshot(dir: string, path: string, size: number): Readable {
  return {
    read: (from, to, signal) => readPart([join(dir, path)], from, Math.min(to ?? size, size), signal),
  };
}
