import { statfs } from 'node:fs/promises';
import pLimit from 'p-limit';
import { type Clock, wallTime } from '../../domain/clock.ts';
import type { EventBus } from '../../domain/events.ts';
import { formatModelUri } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import { inSlices } from '../../policy/slices.ts';
import { sweepLitter } from '../access.ts';
import type { Layout } from '../disk/layout.ts';
import type { Ownership } from '../disk/ownership.ts';
import type { Refs } from '../records/refs.ts';
import type { Usage } from '../records/usage.ts';
import { planCollection } from './collect-plan.ts';
import type { RefItem } from './content.ts';
import { takeInventory } from './inventory.ts';
import type { CollectPlan, Space } from './plan.ts';
import { removeLeftovers, sweep } from './sweep.ts';

/** What must stay free on the cache's file system: other programs live there, and file systems slow down when full. */
export const MIN_FREE_SHARE = 0.15;

/** What the cache may hold, and for how long what nobody asks for is good. */
export interface CacheLimits {
  readonly maxBytes: number;
  /** A ref that was confirmed longer ago is not given any more. In milliseconds. */
  readonly maxStaleMs: number;
  /** Model URIs that are never forgotten. */
  readonly models: ReadonlySet<string>;
}

export interface CollectorOptions {
  readonly layout: Layout;
  readonly tmp: string;
  readonly own: Scope;
  readonly refs: Refs;
  readonly usage: Usage;
  readonly ownership: Ownership;
  readonly limits: CacheLimits;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** What downloads will add: see `Space`. */
export type Demand = Pick<Space, 'reservedBytes' | 'unwrittenBytes' | 'neededBytes'>;

export const NO_DEMAND: Demand = { reservedBytes: 0, unwrittenBytes: 0, neededBytes: 0 };

export interface Disk {
  readonly freeBytes: number;
  readonly minFreeBytes: number;
  readonly totalBytes: number;
}

export interface Collected {
  readonly plan: CollectPlan;
  /** What the cache holds now. */
  readonly usedBytes: number;
  /** What is lacking for the demand all the same. */
  readonly shortBytes: number;
}

/** Looks at what the cache holds, and where this process owns it removes what it may. */
export class Collector {
  readonly #options: CollectorOptions;
  /** What one has taken aside is no litter for another. */
  readonly #oneAtATime = pLimit(1);

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** What would be removed for `demand`. */
  async plan(demand: Demand): Promise<CollectPlan> {
    const { layout, limits, clock } = this.#options;
    const inventory = await takeInventory(layout, await this.#knowledge());
    const space = { ...demand, ...(await this.disk()), maxBytes: limits.maxBytes };
    return await inSlices(planCollection(inventory, space, limits.maxStaleMs, clock.now()));
  }

  /** As `collect`, but only in words. */
  async foresee(): Promise<Collected> {
    const plan = await this.plan(NO_DEMAND);
    return { plan, usedBytes: plan.usedBytes - plan.freedBytes, shortBytes: plan.shortBytes };
  }

  /** Counts, and removes what has to go; a process that does not own the cache only counts. */
  async collect(demand: Demand): Promise<Collected> {
    return await this.#oneAtATime(async () => {
      const { layout, tmp, ownership, clock } = this.#options;
      // What a process left that was killed at it may hold contents that nobody else has.
      if (await ownership.check()) {
        await sweepLitter(layout, clock);
        await removeLeftovers(tmp);
      }
      return await this.carryOut(await this.plan(demand));
    });
  }

  async carryOut(plan: CollectPlan): Promise<Collected> {
    const { usedBytes } = plan;
    if (!(await this.#options.ownership.check())) return { plan, usedBytes, shortBytes: plan.excessBytes };
    if (plan.removals.length === 0) return { plan, usedBytes, shortBytes: plan.shortBytes };
    const swept = await sweep(plan, {
      layout: this.#options.layout,
      tmp: this.#options.tmp,
      knowledge: await this.#knowledge(),
      now: this.#options.clock.now(),
      forget: ({ item }) => this.#forget(item),
    });
    const why = [...new Set(plan.removals.map(removal => removal.why))];
    this.#options.events.emit({ type: 'cache_collected', ...swept, why });
    const missed = Math.max(0, plan.freedBytes - plan.freedOverheadBytes - swept.freedBytes);
    // What was left in place keeps its record.
    const freedBytes = swept.freedBytes + (missed === 0 ? plan.freedOverheadBytes : 0);
    const shortBytes = missed === 0 ? plan.shortBytes : Math.max(0, plan.excessBytes - swept.freedBytes);
    return { plan, usedBytes: usedBytes - freedBytes, shortBytes };
  }

  async disk(): Promise<Disk> {
    const { bavail, blocks, bsize } = await statfs(this.#options.layout.root);
    return {
      freeBytes: bavail * bsize,
      totalBytes: blocks * bsize,
      minFreeBytes: Math.ceil(blocks * bsize * MIN_FREE_SHARE),
    };
  }

  async #knowledge() {
    const { refs, usage, ownership, own, limits, tmp } = this.#options;
    // What another process shows to readers it may have configured, or give for longer.
    const shown = (await ownership.others()).map(({ scope }) => scope);
    const isTheirs = (scopeId: string) => shown.some(scope => scope === undefined || scope === scopeId);
    return {
      tmp,
      usage,
      refs: () => refs.entries().map(({ ref }) => ref),
      isExpendable: (ref: Pick<RefItem, 'uri'>, scopeId: string) =>
        (scopeId === own.id || !isTheirs(scopeId)) && !limits.models.has(formatModelUri(ref.uri)),
    };
  }

  /** Unless it was confirmed meanwhile. */
  async #forget({ uri, scopeId, confirmedAt, path }: RefItem): Promise<void> {
    const { refs, own } = this.#options;
    const scope = { id: scopeId, own: scopeId === own.id };
    const known = refs.get(scope, uri).confirmedAt ?? 0;
    if (wallTime(known) <= (confirmedAt ?? 0)) await refs.forget(scope, uri, path);
  }
}
