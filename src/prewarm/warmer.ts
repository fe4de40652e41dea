import { randomUUID } from 'node:crypto';
import pLimit from 'p-limit';
import type { PrewarmReason } from '../domain/caller.ts';
import type { Clock } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { within } from '../policy/abort.ts';
import { BUDGET_MS } from '../registry/client.ts';
import type { Reloader } from '../reload/api.ts';
import { LONGEST_LIMIT_MS } from '../reload/run-limit.ts';
import type { PrewarmState } from './api.ts';

/** Of the 32 questions that MLflow is asked at once, three quarters are left to callers. */
const MOST_AT_ONCE = 8;
/** A model that takes longer than a question may, as a large one does that is new, holds up no other. */
const QUESTION_MS = BUDGET_MS;
/** A run ends by itself before that. */
const LONGEST_MS = LONGEST_LIMIT_MS + QUESTION_MS;

export interface WarmerOptions {
  readonly reloader: Pick<Reloader, 'reload'>;
  readonly maxStaleMs: number;
  readonly clock: Clock;
  readonly events: EventBus;
}

interface Kept {
  running: Promise<void> | null;
  last: PrewarmState['last_run'];
  skipped: number;
}

/** Reloads models before anybody asks for them: a few at once, and each no more than once. */
export class Warmer {
  readonly #options: WarmerOptions;
  readonly #limit = pLimit(MOST_AT_ONCE);
  readonly #kept = new Map<string, Kept>();
  readonly #stopping = new AbortController();

  constructor(options: WarmerOptions) {
    this.#options = options;
  }

  state(uri: ModelUri): Pick<PrewarmState, 'running' | 'last_run' | 'skipped'> {
    const { running, last, skipped } = this.#of(uri);
    return { running: running !== null, last_run: last, skipped };
  }

  /** Resolves when the model's run is over, which may be one that was under way. A time of a schedule that meets one is left out. */
  async warm(uri: ModelUri, reason: PrewarmReason): Promise<void> {
    const kept = this.#of(uri);
    if (kept.running !== null && reason === 'schedule') {
      kept.skipped++;
      this.#options.events.emitSoon({ type: 'prewarm_skipped', model: uri });
    }
    kept.running ??= this.#warm(kept, uri, reason);
    await kept.running;
  }

  async #warm(kept: Kept, uri: ModelUri, reason: PrewarmReason): Promise<void> {
    try {
      const run = await this.#limit(() => this.#begin(uri, reason));
      kept.last = (await run.done) ?? kept.last;
    } finally {
      kept.running = null;
    }
  }

  /** What waits is not begun, and what is under way goes on only where a caller wants it, too. */
  stop(): void {
    this.#stopping.abort();
  }

  /** Gives its place to the next when the run is over, or has taken longer than a question may. */
  async #begin(uri: ModelUri, reason: PrewarmReason): Promise<{ readonly done: Promise<Kept['last']> }> {
    const done = this.#stopping.signal.aborted ? Promise.resolve(null) : this.#run(uri, reason);
    await within(QUESTION_MS, done);
    return { done };
  }

  async #run(uri: ModelUri, reason: PrewarmReason): Promise<Kept['last']> {
    const { reloader, clock, events, maxStaleMs } = this.#options;
    const at = clock.now() / 1_000;
    const startedAt = clock.monotonic();
    const outcome = await reloader.reload({
      uri,
      caller: { requestId: randomUUID(), airflow: {}, authorization: null, prewarm: reason },
      startedAt,
      deadlineAt: startedAt + LONGEST_MS,
      refreshWaitMs: QUESTION_MS,
      maxStaleMs,
      force: false,
      unwanted: this.#stopping.signal,
    });
    if (this.#stopping.signal.aborted) return null;
    events.emitSoon({ type: 'prewarm_finished', reason, outcome });
    return lastRun(at, outcome);
  }

  #of(uri: ModelUri): Kept {
    const key = formatModelUri(uri);
    const kept = this.#kept.get(key) ?? { running: null, last: null, skipped: 0 };
    this.#kept.set(key, kept);
    return kept;
  }
}

function lastRun(at: number, { status, version, duration_s, warning }: Outcome): NonNullable<Kept['last']> {
  return { at, duration_s, status, version, code: warning?.code ?? null };
}
