import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import { z } from 'zod';
import type { Clock } from '../domain/clock.ts';
import type { Scope } from '../domain/scope.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Question } from '../registry/client.ts';
import type { Cache } from '../store/cache.ts';
import type { JsonAnswer } from '../upstream/json.ts';
import { type Answer, answered } from './answer.ts';
import { keyOf } from './reads.ts';

/** In memory, and on the disk: of each what a thousand models and their runs need. */
const MOST_ENTRIES = 5_000;
const MOST_BYTES = 16 * 1024 * 1024;
/** A longer one is a search's, and of no load. */
const LONGEST_BYTES = 256 * 1024;
const LONGEST_ID = 1_000;
/** An answer that stays the same is written anew this often, so that its age is known after a restart. */
const WRITE_AGAIN_MS = 60_000;
/** A disk that hangs keeps no caller. */
const DISK_WAIT_MS = 200;
/** One after the other, so that what is taken back stays away. */
const WRITES_AT_ONCE = 1;
const MOST_UNWRITTEN = 200;

const Stored = z.object({
  format: z.literal(1),
  key: z.string(),
  at: z.number(),
  status: z.number().int(),
  text: z.string(),
  type: z.string(),
});

interface Kept {
  readonly answer: Answer;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** When it was last given to the disk. */
  readonly writtenAt: number;
}

/** What MLflow last said to each question: to be given again for a moment where that is wanted, or while it does not answer. */
export class KeptAnswers {
  readonly #cache: Cache;
  readonly #clock: Clock;
  /** Null for what was taken back. */
  readonly #recent = new Map<string, Kept | null>();
  readonly #writes = pLimit(WRITES_AT_ONCE);
  #bytes = 0;
  #freshFrom = 0;
  /** On the disk, the one that was written longest ago first; null until somebody has looked. */
  #onDisk: Set<string> | null = null;

  constructor(cache: Cache, clock: Clock) {
    this.#cache = cache;
    this.#clock = clock;
  }

  keep(scope: Scope, key: string, answer: Answer): void {
    const id = idOf(scope, key);
    const before = this.#forgetRecent(id);
    if (answer.text.length > LONGEST_BYTES) return;
    const now = this.#clock.now();
    const isOnDisk =
      before !== null && before.answer.text === answer.text && now - before.writtenAt < WRITE_AGAIN_MS;
    const kept = { answer, at: now, writtenAt: isOnDisk ? before.writtenAt : now };
    this.#remember(id, kept);
    if (!isOnDisk) this.#write(id, kept);
  }

  /** What a reload was told of logged models and runs, which is nowhere else. */
  keepHeard(scope: Scope, question: Question, { status, text }: JsonAnswer): void {
    if (status >= 400 || !/^(logged-models\/|runs\/get$)/.test(question.path)) return;
    this.keep(scope, keyOf(question), answered(text, status));
  }

  /** MLflow says that there is no such thing any more. */
  forget(scope: Scope, key: string): void {
    const id = idOf(scope, key);
    this.#forgetRecent(id);
    this.#remember(id, null);
    this.#change(store => store.answers.remove(digestOf(id)));
  }

  /** Whatever is there may be of before a change. */
  expire(): void {
    this.#freshFrom = this.#clock.now();
  }

  /** One that is younger than `maxAgeMs`. */
  fresh(scope: Scope, key: string, maxAgeMs: number): Answer | null {
    if (maxAgeMs === 0) return null;
    const kept = this.#recent.get(idOf(scope, key));
    if (kept === undefined || kept === null || kept.at <= this.#freshFrom) return null;
    const ageMs = this.#clock.now() - kept.at;
    return ageMs >= 0 && ageMs < maxAgeMs
      ? { ...kept.answer, source: 'kept', ageS: Math.floor(ageMs / 1_000) }
      : null;
  }

  /** The last one, if it is younger than `maxAgeMs`; of a process before this one, too. */
  async last(scope: Scope, key: string, maxAgeMs: number): Promise<Answer | null> {
    const id = idOf(scope, key);
    const recent = this.#recent.get(id);
    const kept = recent === undefined ? await this.#read(id) : recent;
    if (kept === null) return null;
    const ageMs = Math.max(0, this.#clock.now() - kept.at);
    return ageMs <= maxAgeMs ? { ...kept.answer, source: 'kept', ageS: Math.floor(ageMs / 1_000) } : null;
  }

  #remember(id: string, kept: Kept | null): void {
    this.#recent.set(id, kept);
    this.#bytes += kept?.answer.text.length ?? 0;
    for (const oldest of this.#recent.keys()) {
      if (this.#recent.size <= MOST_ENTRIES && this.#bytes <= MOST_BYTES) break;
      this.#forgetRecent(oldest);
    }
  }

  #forgetRecent(id: string): Kept | null {
    const kept = this.#recent.get(id) ?? null;
    this.#recent.delete(id);
    this.#bytes -= kept?.answer.text.length ?? 0;
    return kept;
  }

  async #read(id: string): Promise<Kept | null> {
    const reading = this.#cache.opened?.answers.read(digestOf(id)).catch(() => null) ?? Promise.resolve(null);
    const text = await within(DISK_WAIT_MS, reading);
    const stored = text === TOO_LATE || text === null ? null : parse(text);
    if (stored === null || stored.key !== id) return null;
    const kept = {
      answer: answered(stored.text, stored.status, stored.type),
      at: stored.at,
      writtenAt: stored.at,
    };
    this.#remember(id, kept);
    return kept;
  }

  #write(id: string, { answer, at }: Kept): void {
    const { status, text, contentType: type } = answer;
    const stored: z.infer<typeof Stored> = { format: 1, key: id, at, status, text, type };
    const name = digestOf(id);
    this.#change(async store => {
      await store.answers.write(name, JSON.stringify(stored));
      this.#onDisk ??= new Set(await store.answers.ids());
      this.#onDisk.delete(name);
      this.#onDisk.add(name);
      for (const oldest of this.#onDisk) {
        if (this.#onDisk.size <= MOST_ENTRIES) break;
        this.#onDisk.delete(oldest);
        await store.answers.remove(oldest);
      }
    });
  }

  /** Nobody waits for it, and a disk that takes nothing costs only what a restart would have found. */
  #change(work: (store: ReturnType<Cache['store']>) => Promise<void>): void {
    const store = this.#cache.opened;
    if (store === null || store.problem !== null || store.disk.isHanging) return;
    if (this.#writes.pendingCount >= MOST_UNWRITTEN) return;
    this.#writes(() => work(store)).catch(() => undefined);
  }
}

/** Short, whatever the question is. */
function idOf(scope: Scope, key: string): string {
  const id = `${scope.id} ${key}`;
  return id.length > LONGEST_ID ? digestOf(id) : id;
}

function digestOf(id: string): string {
  return createHash('sha256').update(id).digest('hex');
}

function parse(text: string): z.infer<typeof Stored> | null {
  try {
    return Stored.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
