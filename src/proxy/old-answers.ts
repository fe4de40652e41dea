import { z } from 'zod';
import { type Clock, steady } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import { Recent } from '../policy/recent.ts';
import { REFUSED_GRACE_MS } from '../reload/case.ts';
import type { Refs } from '../store/records/refs.ts';
import type { Answer } from './answer.ts';
import type { Asker } from './asker.ts';
import type { KeptAnswers } from './kept-answers.ts';
import { askedUris } from './lookback.ts';
import type { Read } from './reads.ts';

/** What the cache knows beside kept answers. */
export type LookBack = () => Answer | null | Promise<Answer | null>;

/** Questions of which what is published is a better answer than what MLflow said last: its files are there. */
const OF_PUBLISHED = new Set<Read['route']>([
  'registered-models/get-latest-versions',
  'registered-models/alias',
  'model-versions/get-download-uri',
  'artifacts',
]);

/** Callers may name any workspace. */
const MOST_SCOPES = 1_000;

/** What is given while MLflow does not answer. */
export class OldAnswers {
  readonly #kept: KeptAnswers;
  readonly #maxStaleMs: number;
  readonly #clock: Clock;
  /** Since when MLflow refuses the sidecar's own credential, by scope. */
  readonly #refusedSince = new Recent<number>(MOST_SCOPES);

  constructor(kept: KeptAnswers, maxStaleMs: number, clock: Clock) {
    this.#kept = kept;
    this.#maxStaleMs = maxStaleMs;
    this.#clock = clock;
  }

  /** Null where there is none, where MLflow said "no" last, or where the sidecar's own credential has been refused for too long. */
  async find(read: Read, { scope }: Asker, reason: SidecarError, lookBack: LookBack): Promise<Answer | null> {
    const since = this.#refusedSince.get(scope.id);
    const isRefused = reason.code === 'access_denied' && since !== undefined;
    if (isRefused && steady(this.#clock) - since >= REFUSED_GRACE_MS) return null;
    const found = await lookBack();
    const deniedAt = this.#kept.deniedAt(scope, read.key);
    if (deniedAt !== null && !this.#isConfirmedSince(found, deniedAt)) return null;
    const kept = await this.#kept.last(scope, read.key, this.#maxStaleMs);
    const best =
      OF_PUBLISHED.has(read.route) && !isOfSameVersion(found, kept) ? (found ?? kept) : (kept ?? found);
    return best === null ? null : { ...best, stale: reason.code };
  }

  /** MLflow refuses the sidecar's own credential. */
  refused(read: Read, { scope }: Asker, refs: Refs | null): void {
    const now = steady(this.#clock);
    if (this.#refusedSince.get(scope.id) === undefined) {
      const noted = (refs?.all(scope) ?? []).map(({ refusedAt }) => refusedAt ?? now);
      this.#refusedSince.set(scope.id, Math.min(now, ...noted));
    }
    if (refs === null || !scope.own) return;
    // So that a restart does not begin the time anew.
    for (const uri of askedUris(read)) {
      const { published, refusedAt } = refs.get(scope, uri);
      if (published !== null && refusedAt === null) refs.note(scope, uri, { refusedAt: now });
    }
  }

  /** It takes it. */
  taken({ scope }: Asker): void {
    this.#refusedSince.delete(scope.id);
  }

  /** By a reload, after MLflow said "no" to a client. */
  #isConfirmedSince(found: Answer | null, deniedAt: number): boolean {
    return found?.ageS != null && steady(this.#clock) - (found.ageS + 1) * 1_000 >= deniedAt;
  }
}

const Named = z.object({ version: z.union([z.string(), z.number()]).transform(Number) });
const Versions = z.object({ model_version: Named.optional(), model_versions: z.array(Named).optional() });

/** Then MLflow's own words tell more. */
function isOfSameVersion(found: Answer | null, kept: Answer | null): boolean {
  const published = found === null ? null : versionIn(found);
  return published !== null && kept !== null && versionIn(kept) === published;
}

/** The highest; null where it names none. */
function versionIn({ text }: Answer): number | null {
  const parsed = text === '' ? null : Versions.safeParse(JSON.parse(text)).data;
  const all = [parsed?.model_version, ...(parsed?.model_versions ?? [])].flatMap(one => one?.version ?? []);
  return all.length === 0 ? null : Math.max(...all);
}
