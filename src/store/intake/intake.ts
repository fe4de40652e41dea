import { hash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { SingleFlight } from '../../policy/single-flight.ts';
import { forEach } from '../disk/bulk.ts';
import type { BlobInfo, Blobs, StagedBlob } from './blobs.ts';
import type { PartialKey, Partials } from './partials.ts';
import { readTaken } from './piece-reader.ts';

/** Small files are written together, so many or so many bytes at once. */
const BATCH_FILES = 64;
const BATCH_BYTES = 2 * 1024 * 1024;

interface Wanted {
  readonly blob: BlobInfo;
  readonly by: Set<Intake>;
  /** In memory still, or where it is on the disk. */
  at: Uint8Array | StagedBlob;
}

/** Files that were taken in and are no blobs yet, with the intakes that want each. */
export class Staging {
  readonly blobs: Blobs;
  readonly partials: Partials;
  readonly #wanted = new Map<string, Wanted>();
  readonly #committing = new SingleFlight<void>();
  readonly #litter = new Set<string>();
  #small: Wanted[] = [];
  #smallBytes = 0;
  #writing: Promise<void> | null = null;

  constructor(blobs: Blobs, partials: Partials) {
    this.blobs = blobs;
    this.partials = partials;
  }

  async open(): Promise<Intake> {
    await this.#tidy();
    return new Intake(this);
  }

  /** Removes a file of ours; what the disk does not let go now is tried again later, since it may hold a content. */
  async discard(path: string): Promise<void> {
    this.#litter.add(path);
    await this.#tidy();
  }

  async #tidy(): Promise<void> {
    for (const one of this.#litter) {
      await rm(one, { force: true }).then(
        () => this.#litter.delete(one),
        () => undefined,
      );
    }
  }

  /** Keeps the file for `intake`; whether another with this content was there already. */
  add(staged: StagedBlob, intake: Intake): boolean {
    const known = this.#wanted.get(staged.sha256);
    if (known === undefined) {
      this.#wanted.set(staged.sha256, { blob: staged, by: new Set([intake]), at: staged });
    } else known.by.add(intake);
    return known !== undefined;
  }

  /** Keeps bytes for `intake`, which are written together with others; whoever brings too many waits for the disk. */
  async addBytes(bytes: Uint8Array, blob: BlobInfo, intake: Intake): Promise<void> {
    const known = this.#wanted.get(blob.sha256);
    if (known !== undefined) {
      known.by.add(intake);
      return;
    }
    const wanted: Wanted = { blob, by: new Set([intake]), at: bytes };
    this.#wanted.set(blob.sha256, wanted);
    this.#small.push(wanted);
    this.#smallBytes += bytes.byteLength;
    while (this.#small.length >= BATCH_FILES || this.#smallBytes >= BATCH_BYTES) await this.#writeSmall();
  }

  /** In memory, or where it is on the disk: it moves from the one place to the next. */
  placesOf(sha256: string): Uint8Array | readonly string[] {
    const at = this.#wanted.get(sha256)?.at;
    if (at instanceof Uint8Array) return at;
    return [...(at === undefined ? [] : [at.path]), this.blobs.path(sha256)];
  }

  want(sha256: string, intake: Intake): void {
    this.#wanted.get(sha256)?.by.add(intake);
  }

  /** Makes them blobs for everyone; nothing happens with those that are. */
  async commit(blobs: readonly BlobInfo[]): Promise<void> {
    // Not until nothing is left in memory: another run may go on bringing more for as long as its download takes.
    while (this.#isPending(blobs)) await this.#writeSmall();
    await forEach(blobs, ({ sha256 }) => this.#commitOne(sha256));
  }

  async drop(intake: Intake): Promise<void> {
    for (const [sha256, { at, by }] of this.#wanted) {
      if (!by.delete(intake) || by.size > 0) continue;
      this.#wanted.delete(sha256);
      if (!(at instanceof Uint8Array)) await this.discard(at.path);
    }
  }

  async #commitOne(sha256: string): Promise<void> {
    await this.#committing.join(sha256, async () => {
      const at = this.#wanted.get(sha256)?.at;
      if (at === undefined || at instanceof Uint8Array) return;
      await this.blobs.commit(at);
      this.#wanted.delete(sha256);
    });
  }

  #isPending(blobs: readonly BlobInfo[]): boolean {
    if (this.#small.length === 0 && this.#writing === null) return false;
    return blobs.some(({ sha256 }) => this.#wanted.get(sha256)?.at instanceof Uint8Array);
  }

  /** Most are new, and a look costs less than a link. */
  async #isHeld({ blob, by }: Wanted): Promise<boolean> {
    if (!(await this.blobs.has(blob))) return false;
    const held = await Promise.all([...by].map(intake => intake.hold(blob)));
    return held.every(Boolean);
  }

  /** One batch after the other. */
  async #writeSmall(): Promise<void> {
    this.#writing ??= this.#writeBatch(this.#small.splice(0)).finally(() => {
      this.#writing = null;
    });
    await this.#writing;
  }

  async #writeBatch(batch: readonly Wanted[]): Promise<void> {
    this.#smallBytes = 0;
    const isThere = await forEach(batch, wanted => this.#isHeld(wanted));
    const files = batch.filter((_, at) => isThere[at] === false);
    try {
      const paths = await this.blobs.stageSmall(files.map(({ at }) => bytesOf(at)));
      for (const [at, wanted] of files.entries()) wanted.at = { ...wanted.blob, path: paths[at] ?? '' };
    } catch (error) {
      // Another version may want them, too, and is to find out for itself.
      this.#small.push(...files.filter(({ by }) => by.size > 0));
      throw error;
    }
    for (const { blob, by, at } of batch) {
      const isStaged = !(at instanceof Uint8Array);
      if (!isStaged) this.#wanted.delete(blob.sha256);
      else if (by.size === 0) await this.discard(at.path);
    }
  }
}

function bytesOf(at: Uint8Array | StagedBlob): Uint8Array {
  return at instanceof Uint8Array ? at : new Uint8Array();
}

/** The files of one version on their way in: they become blobs together, or leave nothing behind that anybody sees. */
export class Intake {
  readonly #staging: Staging;
  readonly #holds: string[] = [];

  constructor(staging: Staging) {
    this.#staging = staging;
  }

  /**
   * @param size what was promised, in bytes; null where nothing was
   * @throws SidecarError `artifact_corrupt` where the body is longer or shorter
   */
  async take(body: AsyncIterable<Uint8Array>, size: number | null): Promise<BlobInfo> {
    return await this.#keep(await this.#staging.blobs.stage(body, size));
  }

  /** A small file that has come whole. It is on the disk, together with others, when they are committed. */
  async takeBytes(bytes: Uint8Array): Promise<BlobInfo> {
    const blob = { size: bytes.byteLength, sha256: hash('sha256', bytes) };
    await this.#staging.addBytes(bytes, blob, this);
    return blob;
  }

  /**
   * A large file, with what an earlier try left of it; to be taken when it is whole, or left.
   * @param fresh from nothing
   */
  async partial(key: PartialKey, fresh: boolean) {
    const growing = await this.#staging.partials.take(key, fresh);
    return {
      growing,
      followed: growing.followed,
      take: async () => await this.#keep(await this.#staging.blobs.stagePartial(growing)),
      leave: async () => await growing.leave(),
    };
  }

  /** Whether there is a good blob already; then it stays until this is closed, whoever collects meanwhile. */
  async hold(blob: BlobInfo): Promise<boolean> {
    const { blobs } = this.#staging;
    const hold = await blobs.hold(blob.sha256);
    if (hold !== null) this.#holds.push(hold);
    return await blobs.has(blob);
  }

  /** Also wants a file that another intake took in. */
  share({ sha256 }: BlobInfo): void {
    this.#staging.want(sha256, this);
  }

  /**
   * A part of a file that was taken in, wherever it is by now; a piece is valid until the next one is asked for.
   * @param to exclusive; the end of the file where null
   * @throws Vanished where it is nowhere, as after a download that failed
   */
  read(blob: BlobInfo, from: number, to: number | null, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const end = Math.min(to ?? blob.size, blob.size);
    return readTaken(() => this.#staging.placesOf(blob.sha256), from, end, signal);
  }

  async commit(blobs: readonly BlobInfo[]): Promise<void> {
    await this.#staging.commit(blobs);
  }

  /** Forgets what no other intake wants; right to call after a commit too. */
  async close(): Promise<void> {
    await this.#staging.drop(this);
    for (const hold of this.#holds.splice(0)) await this.#staging.discard(hold);
  }

  async #keep(staged: StagedBlob): Promise<BlobInfo> {
    let isKnown = true;
    try {
      isKnown = (await this.hold(staged)) || this.#staging.add(staged, this);
    } finally {
      if (isKnown) await this.#staging.discard(staged.path);
    }
    return { size: staged.size, sha256: staged.sha256 };
  }
}
