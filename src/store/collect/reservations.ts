import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { unlessRunning } from '../../policy/abort.ts';
import { askOwner, DEMAND_LOOK_MS, demandsIn } from '../disk/demand.ts';
import type { Ownership } from '../disk/ownership.ts';
import { bytesInWork } from '../intake/partials.ts';
import type { Collected, Collector, Demand, Disk } from './collector.ts';
import { diskFull, tooLarge } from './no-room.ts';

/** What a body of unknown size may write before it has to ask for more. */
const STEP_BYTES = 1_048_576;
/** Other processes add to the cache, and things become old enough to go. */
const COUNT_MS = 10 * 60_000;
/** Versions that may all be of the same contents, so that only their number tells that something has to go. */
const MOST_UNCOUNTED = 500;
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
  readonly #ownership: Ownership;
  readonly #maxBytes: number;
  readonly #tmp: string;
  readonly #look: NodeJS.Timeout;
  readonly #every: NodeJS.Timeout;
  #timer: NodeJS.Timeout;
  #isCounting = false;
  #uncounted = 0;
  /** Something was added that has to be counted. */
  #isStale = false;
  #isClosed = false;
  #reservedBytes = 0;
  /** As last counted, with what was added and removed since. */
  #usedBytes: number | null = null;
  #disk: Disk | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param tmp where this process writes what is on its way in */
  constructor(collector: Collector, ownership: Ownership, maxBytes: number, tmp: string) {
    this.#collector = collector;
    this.#ownership = ownership;
    this.#maxBytes = maxBytes;
    this.#tmp = tmp;
    this.#timer = this.#countIn(FIRST_COUNT_MS);
    this.#every = setInterval(() => this.#countSoon(), COUNT_MS).unref();
    const look = unlessRunning(() => this.#answerOthers().catch(() => undefined));
    this.#look = setInterval(look, DEMAND_LOOK_MS).unref();
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
    if ((this.#usedBytes ?? 0) <= this.#maxBytes && ++this.#uncounted < MOST_UNCOUNTED) return;
    this.#countSoon();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#every);
    clearInterval(this.#look);
    await this.#turn.catch(() => undefined);
  }

  async #makeRoom(held: number, more: number): Promise<void> {
    const needed = held + more;
    if (needed > this.#maxBytes) throw tooLarge(needed, this.#maxBytes);
    if (await this.#fits(more)) return;
    let collected = await this.#count(await this.#demandFor(more));
    if (collected.shortBytes > 0 && !this.#ownership.isOwner()) {
      await askOwner(this.#tmp, this.#reservedBytes + more);
      collected = await this.#count(await this.#demandFor(more));
    }
    if (collected.shortBytes <= 0) return;
    throw diskFull(
      needed,
      this.#maxBytes,
      collected,
      await this.#collector.disk(),
      this.#reservedBytes - held,
    );
  }

  /** Makes room for processes that may not remove anything themselves. */
  async #answerOthers(): Promise<void> {
    if (!this.#ownership.isOwner()) return;
    const asked = await demandsIn(await this.#ownership.living());
    if (asked.length === 0) return;
    const bytes = asked.reduce((sum, demand) => sum + demand.bytes, 0);
    await this.#inTurn(async () => this.#count(await this.#demandFor(bytes)));
    await Promise.all(asked.map(demand => demand.answer()));
  }

  async #demandFor(neededBytes: number): Promise<Demand> {
    const reservedBytes = this.#reservedBytes;
    return { reservedBytes, unwrittenBytes: await this.#unwrittenBytes(), neededBytes };
  }

  async #fits(more: number): Promise<boolean> {
    this.#disk = await this.#collector.disk();
    const { freeBytes, minFreeBytes } = this.#disk;
    if (this.#usedBytes === null || this.#usedBytes + this.#reservedBytes + more > this.#maxBytes)
      return false;
    return freeBytes - (await this.#unwrittenBytes()) - more >= minFreeBytes;
  }

  async #count(demand: Demand): Promise<Collected> {
    const collected = await this.#collector.collect(demand);
    this.#usedBytes = collected.usedBytes;
    this.#uncounted = 0;
    return collected;
  }

  /** Where one is under way, once more after it. */
  #countSoon(): void {
    this.#isStale = true;
    if (this.#isCounting) return;
    clearTimeout(this.#timer);
    this.#timer = this.#countIn(0);
  }

  #countIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => void this.#countNow(), ms).unref();
  }

  async #countNow(): Promise<void> {
    this.#isCounting = true;
    this.#isStale = false;
    await this.#inTurn(async () => {
      this.#disk = await this.#collector.disk();
      await this.#count(await this.#demandFor(0));
    }).catch(() => undefined);
    this.#isCounting = false;
    if (this.#isStale && !this.#isClosed) this.#timer = this.#countIn(0);
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
