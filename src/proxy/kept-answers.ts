import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import { z } from 'zod';
import { type Clock, steady, steadyTime, wallTime } from '../domain/clock.ts';
import type { Scope } from '../domain/scope.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Question } from '../registry/client.ts';
import type { Cache } from '../store/cache.ts';
import type { JsonAnswer } from '../upstream/json.ts';
import { type Answer, answered } from './answer.ts';
import { assertAnswers } from './matching.ts';
import { keyOf, type Read } from './reads.ts';

/** In memory: what a thousand models and their runs need. */
const MOST_ENTRIES = 5_000;
const MOST_BYTES = 16 * 1024 * 1024;
/** A longer one is a search's, and of no load. */
const LONGEST_BYTES = 256 * 1024;
/** On the disk: 128 MiB at most, and a tenth of that as a rule. */
const LONGEST_WRITTEN = 64 * 1024;
const MOST_WRITTEN = 2_000;
const LONGEST_ID = 1_000;
/** Whose changes are remembered apart; with more, each is taken for everybody's. */
const MOST_SCOPES = 1_000;
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
  /** Null where MLflow said no. */
  readonly answer: Answer | null;
  /** In steady milliseconds. */
  readonly at: number;
  /** When it was last given to the disk. */
  readonly writtenAt: number;
}

/** What MLflow last said to each question: to be given again for a moment where that is wanted, or while it does not answer. */
export class KeptAnswers {
  readonly #cache: Cache;
  readonly #clock: Clock;
  readonly #recent = new Map<string, Kept>();
  readonly #writes = pLimit(WRITES_AT_ONCE);
  #bytes = 0;
  #freshFrom = 0;
  /** The same of single scopes. */
  readonly #freshFromOf = new Map<string, number>();
  /** On the disk, the one that was written longest ago first; null until somebody has looked. */
  #onDisk: Set<string> | null = null;

  constructor(cache: Cache, clock: Clock) {
    this.#cache = cache;
    this.#clock = clock;
  }

  /** @param since when it was asked for: what was changed after that may not be in it */
  keep(scope: Scope, { key, route }: Pick<Read, 'key' | 'route'>, answer: Answer, since: number): void {
    const id = idOf(scope, key);
    const before = this.#forget(id);
    if (answer.text.length > LONGEST_BYTES) return;
    const isSame = before?.answer?.text === answer.text;
    const isOnDisk = isSame && before !== null && since - before.writtenAt < WRITE_AGAIN_MS;
    const kept = { answer, at: since, writtenAt: isOnDisk ? before.writtenAt : since };
    this.#remember(id, kept);
    const isWorthIt = answer.text.length <= LONGEST_WRITTEN && !route.endsWith('/search');
    if (!isOnDisk && (isWorthIt || route === 'logged-models/search')) this.#write(id, { ...kept, answer });
  }

  /** A newer one is too long to be kept. */
  forget(scope: Scope, key: string): void {
    this.#forget(idOf(scope, key));
  }

  /** What a reload was told of logged models and runs, which is nowhere else. */
  keepHeard(scope: Scope, question: Question, { status, text, body }: JsonAnswer): void {
    const route = heardRoute(question);
    if (status >= 400 || route === null || text === null || !isAnswerTo(question, route, body)) return;
    this.keep(scope, { key: keyOf(question), route }, answered(text, status), steady(this.#clock));
  }

  /** MLflow says that there is no such thing, or that it is not for whoever asks. */
  deny(scope: Scope, key: string): void {
    const id = idOf(scope, key);
    this.#forget(id);
    const at = steady(this.#clock);
    this.#remember(id, { answer: null, at, writtenAt: at });
    this.#change(store => store.answers.remove(digestOf(id)));
  }

  /** When MLflow last said so, where it has said nothing else since; in steady milliseconds. */
  deniedAt(scope: Scope, key: string): number | null {
    const kept = this.#recent.get(idOf(scope, key));
    return kept !== undefined && kept.answer === null ? kept.at : null;
  }

  /** Whatever is there may be of before a change. @param scope null for all of them */
  expire(scope: Scope | null): void {
    const now = steady(this.#clock);
    if (scope !== null && this.#freshFromOf.size < MOST_SCOPES)
      return void this.#freshFromOf.set(scope.id, now);
    this.#freshFromOf.clear();
    this.#freshFrom = now;
  }

  /** One that is younger than `maxAgeMs`. */
  fresh(scope: Scope, key: string, maxAgeMs: number): Answer | null {
    if (maxAgeMs === 0) return null;
    const kept = this.#recent.get(idOf(scope, key));
    const freshFrom = Math.max(this.#freshFrom, this.#freshFromOf.get(scope.id) ?? 0);
    return kept === undefined || kept.at <= freshFrom ? null : this.#aged(kept, maxAgeMs);
  }

  /** The last one, if it is not older than `maxAgeMs`; of a process before this one, too. */
  async last(scope: Scope, key: string, maxAgeMs: number): Promise<Answer | null> {
    const id = idOf(scope, key);
    const kept = this.#recent.get(id) ?? (await this.#read(id));
    return kept === null ? null : this.#aged(kept, maxAgeMs);
  }

  #aged({ answer, at }: Kept, maxAgeMs: number): Answer | null {
    const ageMs = Math.max(0, steady(this.#clock) - at);
    if (answer === null || ageMs >= maxAgeMs) return null;
    return { ...answer, source: 'kept', ageS: Math.floor(ageMs / 1_000) };
  }

  #remember(id: string, kept: Kept): void {
    this.#recent.set(id, kept);
    this.#bytes += sizeOf(kept);
    for (const oldest of this.#recent.keys()) {
      if (this.#recent.size <= MOST_ENTRIES && this.#bytes <= MOST_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(id: string): Kept | null {
    const kept = this.#recent.get(id);
    if (kept === undefined) return null;
    this.#recent.delete(id);
    this.#bytes -= sizeOf(kept);
    return kept;
  }

  async #read(id: string): Promise<Kept | null> {
    const reading = this.#cache.opened?.answers.read(digestOf(id)).catch(() => null) ?? Promise.resolve(null);
    const text = await within(DISK_WAIT_MS, reading);
    // Whatever came meanwhile is newer.
    const meanwhile = this.#recent.get(id);
    if (meanwhile !== undefined) return meanwhile;
    const stored = text === TOO_LATE || text === null ? null : parse(text);
    if (stored === null || stored.key !== id) return null;
    const answer = answered(stored.text, stored.status, stored.type);
    const at = steadyTime(stored.at, this.#clock);
    const kept = { answer, at, writtenAt: at };
    this.#remember(id, kept);
    if (stored.at > this.#clock.now()) this.#write(id, kept);
    return kept;
  }

  #write(id: string, { answer, at }: Kept & { readonly answer: Answer }): void {
    const { status, text, contentType: type } = answer;
    const stored: z.infer<typeof Stored> = {
      format: 1,
      key: id,
      at: wallTime(at, this.#clock),
      status,
      text,
      type,
    };
    const name = digestOf(id);
    this.#change(async store => {
      await store.answers.write(name, JSON.stringify(stored));
      this.#onDisk ??= new Set(await store.answers.ids());
      this.#onDisk.delete(name);
      this.#onDisk.add(name);
      for (const oldest of this.#onDisk) {
        if (this.#onDisk.size <= MOST_WRITTEN) break;
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

function sizeOf({ answer }: Kept): number {
  return answer?.text.length ?? 0;
}

function heardRoute({ path }: Question): Read['route'] | null {
  if (path === 'runs/get' || path === 'logged-models/search') return path;
  return path.startsWith('logged-models/') ? 'logged-models/*' : null;
}

/** Whoever asked refuses another's answer; it is not to be kept either. */
function isAnswerTo(question: Question, route: Read['route'], body: unknown): boolean {
  const named = Array.isArray(question.query) ? question.query : Object.entries(question.query ?? {});
  const id = decodeURIComponent(question.path.slice('logged-models/'.length));
  try {
    assertAnswers({ route, question, fields: new Map([...named, ['model_id', id]]) }, body);
    return true;
  } catch {
    return false;
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
