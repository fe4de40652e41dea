import { hash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import pLimit from 'p-limit';
import { SingleFlight } from '../policy/single-flight.ts';
import type { BlobInfo, Blobs, StagedBlob } from './blobs.ts';
import type { PartialKey, Partials } from './partials.ts';

/** As many as libuv has threads for. */
const COMMITS_IN_FLIGHT = 16;

/** Files that were taken in and are no blobs yet, with the number of intakes that want each. */
export class Staging {
  readonly blobs: Blobs;
  readonly partials: Partials;
  readonly #open = new Set<Promise<void>>();
  readonly #wanted = new Map<string, { readonly staged: StagedBlob; readonly by: Set<Intake> }>();
  readonly #committing = new SingleFlight<void>();

  constructor(blobs: Blobs, partials: Partials) {
    this.blobs = blobs;
    this.partials = partials;
  }

  open(): Intake {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#open.add(promise);
    return new Intake(this, () => {
      resolve();
      this.#open.delete(promise);
    });
  }

  /** Resolves once nobody takes anything in any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#open);
  }

  has(sha256: string): boolean {
    return this.#wanted.has(sha256);
  }

  /** Keeps the file for `intake`; whether another with this content was there already. */
  add(staged: StagedBlob, intake: Intake): boolean {
    const known = this.#wanted.get(staged.sha256);
    if (known === undefined) this.#wanted.set(staged.sha256, { staged, by: new Set([intake]) });
    else known.by.add(intake);
    return known !== undefined;
  }

  want(sha256: string, intake: Intake): void {
    this.#wanted.get(sha256)?.by.add(intake);
  }

  /** Makes it a blob for everyone; nothing happens where it is one already. */
  async commit(sha256: string): Promise<void> {
    await this.#committing.join(sha256, async () => {
      const staged = this.#wanted.get(sha256)?.staged;
      if (staged === undefined) return;
      await this.blobs.commit(staged);
      this.#wanted.delete(sha256);
    });
  }

  async drop(intake: Intake): Promise<void> {
    for (const [sha256, { staged, by }] of this.#wanted) {
      if (!by.delete(intake) || by.size > 0) continue;
      this.#wanted.delete(sha256);
      await rm(staged.path, { force: true });
    }
  }
}

/** The files of one version on their way in: they become blobs together, or leave nothing behind that anybody sees. */
export class Intake {
  readonly #staging: Staging;
  readonly #onClose: () => void;

  constructor(staging: Staging, onClose: () => void) {
    this.#staging = staging;
    this.#onClose = onClose;
  }

  /**
   * @param size what was promised, in bytes; null where nothing was
   * @throws SidecarError `artifact_corrupt` where the body is longer or shorter
   */
  async take(body: AsyncIterable<Uint8Array>, size: number | null): Promise<BlobInfo> {
    return await this.#keep(await this.#staging.blobs.stage(body, size));
  }

  /** A small file that has come whole. */
  async takeBytes(bytes: Uint8Array): Promise<BlobInfo> {
    const blob = { size: bytes.byteLength, sha256: hash('sha256', bytes) };
    const isKnown = this.#staging.has(blob.sha256) || (await this.#staging.blobs.has(blob));
    if (isKnown) this.share(blob);
    else await this.#add(await this.#staging.blobs.stageBytes(bytes, blob));
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
      take: async () => await this.#keep(await this.#staging.blobs.stagePartial(growing)),
      leave: async () => await growing.leave(),
    };
  }

  /** Also wants a file that another intake took in. */
  share({ sha256 }: BlobInfo): void {
    this.#staging.want(sha256, this);
  }

  async commit(blobs: readonly BlobInfo[]): Promise<void> {
    const limit = pLimit(COMMITS_IN_FLIGHT);
    await Promise.all(blobs.map(({ sha256 }) => limit(() => this.#staging.commit(sha256))));
  }

  /** Forgets what no other intake wants; right to call after a commit too. */
  async close(): Promise<void> {
    try {
      await this.#staging.drop(this);
    } finally {
      this.#onClose();
    }
  }

  async #keep(staged: StagedBlob): Promise<BlobInfo> {
    if (await this.#staging.blobs.has(staged)) await rm(staged.path, { force: true });
    else await this.#add(staged);
    return { size: staged.size, sha256: staged.sha256 };
  }

  async #add(staged: StagedBlob): Promise<void> {
    if (this.#staging.add(staged, this)) await rm(staged.path, { force: true });
  }
}
