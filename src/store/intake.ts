import { rm } from 'node:fs/promises';
import { SingleFlight } from '../policy/single-flight.ts';
import type { BlobInfo, Blobs, StagedBlob } from './blobs.ts';

/** Files that were taken in and are no blobs yet, with the number of intakes that want each. */
export class Staging {
  readonly blobs: Blobs;
  readonly #wanted = new Map<string, { readonly staged: StagedBlob; readonly by: Set<Intake> }>();
  readonly #committing = new SingleFlight<void>();

  constructor(blobs: Blobs) {
    this.blobs = blobs;
  }

  open(): Intake {
    return new Intake(this);
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

/** The files of one version on their way in: they become blobs together, or leave nothing behind. */
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
    const staged = await this.#staging.blobs.stage(body, size);
    let isKnown = true;
    try {
      isKnown = (await this.#hold(staged)) || this.#staging.add(staged, this);
    } finally {
      if (isKnown) await rm(staged.path, { force: true });
    }
    return { size: staged.size, sha256: staged.sha256 };
  }

  /** Whether there is a good blob already; then it stays until this is closed, whoever collects meanwhile. */
  async #hold(staged: StagedBlob): Promise<boolean> {
    const hold = await this.#staging.blobs.hold(staged.sha256);
    if (hold !== null) this.#holds.push(hold);
    return await this.#staging.blobs.has(staged);
  }

  /** Also wants a file that another intake took in. */
  share({ sha256 }: BlobInfo): void {
    this.#staging.want(sha256, this);
  }

  async commit(blobs: readonly BlobInfo[]): Promise<void> {
    for (const { sha256 } of blobs) await this.#staging.commit(sha256);
    await this.#staging.blobs.sync(blobs);
  }

  /** Forgets what no other intake wants; right to call after a commit too. */
  async close(): Promise<void> {
    await this.#staging.drop(this);
    for (const hold of this.#holds.splice(0)) await rm(hold, { force: true });
  }
}
