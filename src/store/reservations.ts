import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../domain/bytes.ts';
import { SidecarError } from '../domain/errors.ts';
import { type Collected, type Collector, type Disk, MIN_FREE_SHARE, NO_DEMAND } from './collector.ts';
import { bytesInWork } from './partials.ts';

/** What a body of unknown size may write before it has to ask for more. */
const STEP_BYTES = 1_048_576;
/** Other processes add to the cache, and things become old enough to go. */
const COUNT_MS = 10 * 60_000;
/** Not while the process starts. */
const FIRST_COUNT_MS = 10_000;

/** Room for one download, until it is released. */
export interface Reservation {
  /** Lets a body of unknown size through as long as there is room. @throws SidecarError `disk_full` */
  metered(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  release(): void;
}

/** Gives every download its room before its first byte comes, and keeps the count of what the cache holds. */
export class Reservations {
  readonly #collector: Collector;
  readonly #maxBytes: number;
  readonly #tmp: string;
  #timer: NodeJS.Timeout;
  #reservedBytes = 0;
  /** As last counted, with what was added and removed since. */
  #usedBytes: number | null = null;
  #disk: Disk | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param tmp where this process writes what is on its way in */
  constructor(collector: Collector, maxBytes: number, tmp: string) {
    this.#collector = collector;
    this.#maxBytes = maxBytes;
    this.#tmp = tmp;
    this.#timer = this.#countIn(FIRST_COUNT_MS);
  }

  /** As last seen; null where nobody has looked yet. */
  get state() {
    return {
      usedBytes: this.#usedBytes,
      freeBytes: this.#disk?.freeBytes ?? null,
    };
  }

  /**
   * @param bytes that the listing names
   * @throws SidecarError `disk_full` where they do not fit, whatever may be removed
   */
  async reserve(bytes: number): Promise<Reservation> {
    let held = 0;
    let isReleased = false;
    const hold = async (more: number) => {
      await this.#inTurn(() => this.#makeRoom(held, more));
      if (isReleased) return;
      held += more;
      this.#reservedBytes += more;
    };
    await hold(bytes);
    return {
      metered: body => metered(body, hold),
      release: () => {
        isReleased = true;
        this.#reservedBytes -= held;
        held = 0;
      },
    };
  }

  /** Something came into the cache; no more than this, since contents may be shared. */
  added(bytes: number): void {
    if (this.#usedBytes !== null) this.#usedBytes += bytes;
    if ((this.#usedBytes ?? 0) <= this.#maxBytes) return;
    clearTimeout(this.#timer);
    this.#timer = this.#countIn(0);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#turn.catch(() => undefined);
    clearTimeout(this.#timer);
  }

  async #makeRoom(held: number, more: number): Promise<void> {
    const needed = held + more;
    if (needed > this.#maxBytes) throw tooLarge(needed, this.#maxBytes);
    if (await this.#fits(more)) return;
    const demand = {
      reservedBytes: this.#reservedBytes,
      unwrittenBytes: await this.#unwrittenBytes(),
      neededBytes: more,
    };
    const collected = await this.#count(demand);
    if (collected.shortBytes <= 0) return;
    throw diskFull(
      needed,
      this.#maxBytes,
      collected,
      await this.#collector.disk(),
      this.#reservedBytes - held,
    );
  }

  async #fits(more: number): Promise<boolean> {
    this.#disk = await this.#collector.disk();
    const { freeBytes, minFreeBytes } = this.#disk;
    if (this.#usedBytes === null || this.#usedBytes + this.#reservedBytes + more > this.#maxBytes)
      return false;
    return freeBytes - (await this.#unwrittenBytes()) - more >= minFreeBytes;
  }

  async #count(demand = NO_DEMAND): Promise<Collected> {
    const collected = await this.#collector.collect(demand);
    this.#usedBytes = collected.usedBytes;
    return collected;
  }

  #countIn(ms: number): NodeJS.Timeout {
    const count = async () => {
      await this.#inTurn(async () => {
        this.#disk = await this.#collector.disk();
        const unwrittenBytes = await this.#unwrittenBytes();
        await this.#count({ reservedBytes: this.#reservedBytes, unwrittenBytes, neededBytes: 0 });
      }).catch(() => undefined);
      this.#timer = this.#countIn(COUNT_MS);
    };
    return setTimeout(() => void count(), ms).unref();
  }

  /** What is reserved and not on the disk yet. */
  async #unwrittenBytes(): Promise<number> {
    if (this.#reservedBytes === 0) return 0;
    const names = await readdir(this.#tmp).catch(() => []);
    const sizes = await Promise.all(
      names.map(name =>
        stat(join(this.#tmp, name)).then(
          stats => (stats.isFile() ? stats.size : 0),
          () => 0,
        ),
      ),
    );
    const partialBytes = await bytesInWork(this.#tmp);
    return Math.max(0, this.#reservedBytes - partialBytes - sizes.reduce((sum, size) => sum + size, 0));
  }

  /** One after the other, so that no room is given twice. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return await result;
  }
}

async function* metered(
  body: AsyncIterable<Uint8Array>,
  hold: (bytes: number) => Promise<void>,
): AsyncGenerator<Uint8Array> {
  let left = 0;
  for await (const chunk of body) {
    if (chunk.byteLength > left) {
      const more = Math.max(STEP_BYTES, chunk.byteLength - left);
      await hold(more);
      left += more;
    }
    left -= chunk.byteLength;
    yield chunk;
  }
}

const RAISE = 'Raise SIDECAR_CACHE_MAX_BYTES.';

function tooLarge(needed: number, maxBytes: number): SidecarError {
  const words = `The version needs ${formatBytes(needed)}, more than the whole cache may hold: SIDECAR_CACHE_MAX_BYTES is ${formatBytes(maxBytes)}.`;
  return new SidecarError('disk_full', words, { hint: RAISE });
}

function diskFull(
  needed: number,
  maxBytes: number,
  { plan, usedBytes, shortBytes }: Collected,
  { freeBytes, minFreeBytes, totalBytes }: Disk,
  othersBytes: number,
): SidecarError {
  const share = `${MIN_FREE_SHARE * 100} %`;
  const others = othersBytes > 0 ? `, ${formatBytes(othersBytes)} more are on their way` : '';
  const message = [
    `The cache has no room for the ${formatBytes(needed)} that the version needs; ${formatBytes(shortBytes)} are lacking.`,
    `It holds ${formatBytes(usedBytes)} of ${formatBytes(maxBytes)} (SIDECAR_CACHE_MAX_BYTES)${others}.`,
    `On its file system ${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} are free, of which ${share} (${formatBytes(minFreeBytes)}) must stay so.`,
  ];
  const isDisk = usedBytes - plan.gracedBytes + needed + othersBytes <= maxBytes;
  const hint = isDisk
    ? 'Free space on the file system of SIDECAR_CACHE_DIR, or move the cache to a larger one.'
    : RAISE;
  return new SidecarError('disk_full', message.join(' '), { hint });
}
