import type { Options } from '../config/options.ts';
import type { Clock } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Reloader } from '../reload/api.ts';
import type { PrewarmState } from './api.ts';
import { Scheduler } from './scheduler.ts';
import { WarmUp } from './warm-up.ts';
import { Warmer } from './warmer.ts';

export interface PrewarmDeps {
  readonly options: Pick<Options, 'models' | 'schedules' | 'prewarmTimezone' | 'warmupS' | 'maxStaleS'>;
  readonly reloader: Pick<Reloader, 'reload'>;
  /** Whether there is a version to give. */
  readonly isThere: (uri: ModelUri) => boolean;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** Loads the configured models before anybody asks for them: at the start, and by their schedules. */
export class Prewarm {
  readonly #options: PrewarmDeps['options'];
  readonly #warmer: Warmer;
  readonly #scheduler: Scheduler;
  readonly #warmUp: WarmUp;

  constructor({ options, reloader, isThere, clock, events }: PrewarmDeps) {
    const { models, schedules, prewarmTimezone: timezone, warmupS, maxStaleS } = options;
    this.#options = options;
    this.#warmer = new Warmer({ reloader, maxStaleMs: maxStaleS * 1_000, clock, events });
    const onDue = (uri: ModelUri) => void this.#warmer.warm(uri, 'schedule').catch(() => undefined);
    this.#scheduler = new Scheduler({ schedules, timezone, onDue, clock });
    this.#warmUp = new WarmUp({ models, ms: warmupS * 1_000, warmer: this.#warmer, isThere, clock });
  }

  /** Why callers should wait for the warm-up; null once they need not. */
  get problem(): string | null {
    return this.#warmUp.problem;
  }

  /** Of every model that is pre-warmed. */
  state(): readonly PrewarmState[] {
    const { models, schedules, prewarmTimezone, warmupS } = this.#options;
    const nextRuns = this.#scheduler.nextRuns();
    const byUri = new Map(schedules.map(schedule => [schedule.uri, schedule]));
    return models.flatMap(uri => {
      const schedule = byUri.get(uri);
      if (schedule === undefined && warmupS === 0) return [];
      const next = nextRuns.get(uri) ?? null;
      return {
        model_uri: formatModelUri(uri),
        schedule: schedule?.cron ?? null,
        timezone: schedule === undefined ? null : prewarmTimezone,
        next_run_at: next === null ? null : next / 1_000,
        ...this.#warmer.state(uri),
      };
    });
  }

  start(): void {
    this.#scheduler.start();
    this.#warmUp.start();
  }

  stop(): void {
    this.#scheduler.stop();
    this.#warmUp.stop();
    this.#warmer.stop();
  }
}
