import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { atOnce } from '../../src/policy/slices.ts';
import { keptBy } from '../../src/store/collect/asked.ts';
import {
  GIVEN_GRACE_MS,
  IN_FLIGHT_GRACE_MS,
  planCollection,
  READER_GRACE_MS,
} from '../../src/store/collect/collect-plan.ts';
import type { BlobItem, Inventory, RefItem, SnapshotItem } from '../../src/store/collect/content.ts';
import type { CollectPlan, Removal, Space } from '../../src/store/collect/plan.ts';
import { MOST_SCOPES } from '../../src/store/collect/surplus.ts';

const NOW = 1_700_000_000_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const MAX_STALE_MS = 7 * DAY_MS;

const ROOMY: Space = {
  maxBytes: 1_000,
  minFreeBytes: 100,
  freeBytes: 1_000_000,
  reservedBytes: 0,
  unwrittenBytes: 0,
  neededBytes: 0,
};

function blob(sha256: string, size: number, change: Partial<BlobItem> = {}): BlobItem {
  return { sha256, size, links: 1, changedAt: NOW - DAY_MS, ...change };
}

function snapshot(id: string, ageMs: number, blobs: readonly BlobItem[], change: Partial<SnapshotItem> = {}) {
  return {
    id,
    manifest: `${id}.json`,
    blobs,
    lastUsedAt: NOW - ageMs,
    overheadBytes: 0,
    isSuperseded: false,
    ...change,
  };
}

/** A snapshot with a content of its own. */
function version(id: string, ageMs: number, size = 100, change: Partial<SnapshotItem> = {}): SnapshotItem {
  return snapshot(id, ageMs, [blob(`${id}-content`, size)], change);
}

function ref(name: string, current: string | null, previous: string | null = null, ageMs = 0): RefItem {
  return {
    uri: parseModelUri(`models:/${name}/Production`),
    scopeId: 'own',
    path: `refs/${name}/Production.json`,
    current,
    previous,
    confirmedAt: NOW - ageMs,
    notedAt: 0,
    isExpendable: true,
  };
}

function inventoryOf(
  snapshots: readonly SnapshotItem[],
  refs: readonly RefItem[] = [],
  rest: Partial<Inventory> = {},
): Inventory {
  const blobs = [...new Set(snapshots.flatMap(item => item.blobs))];
  return { snapshots, refs, blobs, orphans: [], spares: [], underWayBytes: 0, stateBytes: 0, ...rest };
}

function planned(inventory: Inventory, space: Partial<Space> = {}): CollectPlan {
  return atOnce(planCollection(inventory, { ...ROOMY, ...space }, MAX_STALE_MS, NOW));
}

function words(removal: Removal): string {
  switch (removal.kind) {
    case 'snapshot':
      return `${removal.why} ${removal.item.id}`;
    case 'blob':
      return `${removal.why} ${removal.item.sha256}`;
    case 'orphan':
      return `${removal.why} ${removal.path}`;
    case 'spare':
      return `${removal.why} ${removal.item.path}`;
    case 'ref':
      return `${removal.why} ref ${removal.item.path.split('/')[1] ?? ''}`;
  }
}

const removed = (plan: CollectPlan) => plan.removals.map(words);

describe('litter goes, however much room there is:', () => {
  const OLD = IN_FLIGHT_GRACE_MS;

  test('contents that nobody has', () => {
    const loose = [
      blob('old', 5, { links: 0, changedAt: NOW - OLD }),
      blob('new', 7, { links: 0, changedAt: NOW - OLD + 1 }),
    ];
    const linked = blob('linked', 9, { links: 1, changedAt: 0 });
    const plan = planned(inventoryOf([], [], { blobs: [...loose, linked] }));
    expect(removed(plan)).toEqual(['litter old']);
    expect(plan).toMatchObject({ usedBytes: 21, freedBytes: 5 });
  });

  test('snapshots that nobody can find any more', () => {
    const lost = { manifest: null };
    const items = [
      version('old', OLD, 1, lost),
      version('new', OLD - 1, 1, lost),
      version('current', OLD, 1, lost),
    ];
    expect(removed(planned(inventoryOf(items, [ref('churn', 'current')])))).toEqual(['litter old']);
  });

  test('notes of snapshots that are gone', () => {
    const orphans = [
      { path: 'old', blobs: [], changedAt: NOW - OLD },
      { path: 'new', blobs: [], changedAt: NOW - OLD + 1 },
    ];
    expect(removed(planned(inventoryOf([], [], { orphans })))).toEqual(['litter old']);
  });

  test('at once, records of snapshots that are gone, with the contents that nobody else has', () => {
    const loose = blob('loose', 5, { links: 0, changedAt: NOW });
    const linked = blob('linked', 7, { links: 1, changedAt: NOW });
    const held = blob('held', 9, { links: 0, changedAt: NOW });
    const blobs = [loose, linked, held];
    const orphans = [{ path: 'record', blobs, changedAt: null }];
    const plan = planned(inventoryOf([snapshot('copy', 0, [held])], [], { orphans, blobs }));
    expect(plan.removals).toEqual([{ kind: 'orphan', why: 'litter', path: 'record', blobs: [loose] }]);
    expect(plan.freedBytes).toBe(5);
  });
});

describe('superseded snapshots', () => {
  const items = [9, 1, 5, 7, 3].map(days => version(`${days} days`, days * DAY_MS, 200));

  test('go from the least recently used one on, down to 80 % of what the cache may hold', () => {
    const plan = planned(inventoryOf(items), { maxBytes: 900 });
    expect(removed(plan)).toEqual(['superseded 9 days', 'superseded 7 days']);
    expect(plan).toMatchObject({ usedBytes: 1_000, freedBytes: 400, excessBytes: 100, shortBytes: 0 });
  });

  test('stay where there is room', () => {
    expect(removed(planned(inventoryOf(items), { maxBytes: 1_250 }))).toEqual([]);
  });

  test('make room for what is needed and for what is on its way', () => {
    const plan = planned(inventoryOf(items), { maxBytes: 1_250, neededBytes: 100, reservedBytes: 150 });
    expect(removed(plan)).toEqual(['superseded 9 days', 'superseded 7 days']);
  });

  test('make room on the file system, of which a part must stay free', () => {
    const plan = planned(inventoryOf(items), { maxBytes: 1e9, freeBytes: 60, minFreeBytes: 100 });
    expect(plan.excessBytes).toBe(40);
    expect(removed(plan)).toEqual(['superseded 9 days', 'superseded 7 days']);
  });

  test('stay for 24 hours, unless space is needed; then only as many go as it takes', () => {
    const young = [version('b', 2 * HOUR_MS), version('a', 20 * HOUR_MS), version('c', HOUR_MS)];
    expect(removed(planned(inventoryOf(young), { maxBytes: 300 }))).toEqual([]);
    expect(removed(planned(inventoryOf(young), { maxBytes: 300, neededBytes: 50 }))).toEqual(['space a']);
  });

  test('that share contents free what is theirs alone', () => {
    const shared = blob('shared', 500, { links: 2 });
    const two = [
      snapshot('old', 3 * DAY_MS, [shared, blob('a', 10)]),
      snapshot('new', 2 * DAY_MS, [shared, blob('b', 20)]),
    ];
    const plan = planned(inventoryOf(two, [ref('churn', 'new')]), { maxBytes: 520 });
    expect(removed(plan)).toEqual(['superseded old']);
    expect(plan).toMatchObject({ usedBytes: 530, freedBytes: 10, shortBytes: 0 });
  });

  test('that hold copies, where there are no hard links, count twice', () => {
    const copy = version('old', 2 * DAY_MS, 100);
    const [content] = copy.blobs.map(item => ({ ...item, links: 0 }));
    const item = { ...copy, blobs: content === undefined ? [] : [content] };
    expect(planned(inventoryOf([item]), { maxBytes: 199 })).toMatchObject({
      usedBytes: 200,
      freedBytes: 200,
    });
  });
});

describe('what is not of a version', () => {
  const spares = [
    { path: 'begun', bytes: 40, changedAt: NOW - HOUR_MS },
    { path: 'damaged', bytes: 70, changedAt: NOW - 2 * HOUR_MS },
  ];
  const inventory = inventoryOf([version('old', 20 * HOUR_MS)], [], { spares, underWayBytes: 30 });

  test('counts, and stays where there is room', () => {
    expect(planned(inventory)).toMatchObject({ removals: [], usedBytes: 240 });
  });

  test('goes before any version where space is needed, and only as much as it takes', () => {
    expect(removed(planned(inventory, { maxBytes: 200 }))).toEqual(['space begun']);
    expect(removed(planned(inventory, { maxBytes: 170 }))).toEqual(['space begun', 'space damaged']);
    const all = planned(inventory, { maxBytes: 100 });
    expect(removed(all)).toEqual(['space begun', 'space damaged', 'space old']);
    expect(all).toMatchObject({ freedBytes: 210, shortBytes: 0 });
  });

  test('goes after 24 hours in any case', () => {
    const old = [{ path: 'begun', bytes: 40, changedAt: NOW - DAY_MS }, ...spares.slice(1)];
    expect(removed(planned({ ...inventory, spares: old }))).toEqual(['litter begun']);
  });
});

describe('never removed, however much space is needed, is', () => {
  const needed = { maxBytes: 100, neededBytes: 100 };

  test('what a ref points to, and what it pointed to before', () => {
    const items = [
      version('current', 9 * DAY_MS),
      version('previous', 9 * DAY_MS),
      version('older', 8 * DAY_MS),
    ];
    const plan = planned(inventoryOf(items, [ref('churn', 'current', 'previous')]), needed);
    expect(removed(plan)).toEqual(['superseded older']);
    expect(plan.shortBytes).toBe(200);
  });

  test('what a process superseded so lately that somebody may be reading it; the quota does not count it meanwhile', () => {
    const mine = { isSuperseded: true };
    const items = [
      version('read', READER_GRACE_MS - 1, 100, mine),
      version('done', READER_GRACE_MS, 100, mine),
    ];
    const plan = planned(inventoryOf(items), needed);
    expect(removed(plan)).toEqual(['space done']);
    expect(plan).toMatchObject({ gracedBytes: 100, shortBytes: 0 });
  });

  test('that, but it does count where the file system is what is full', () => {
    const items = [version('read', READER_GRACE_MS - 1, 100, { isSuperseded: true })];
    const full = { freeBytes: 150, minFreeBytes: 100, neededBytes: 80 };
    expect(planned(inventoryOf(items), full)).toMatchObject({ removals: [], shortBytes: 30 });
  });

  test('what somebody may be about to publish', () => {
    const items = [version('in flight', IN_FLIGHT_GRACE_MS - 1), version('left', IN_FLIGHT_GRACE_MS)];
    expect(removed(planned(inventoryOf(items), needed))).toEqual(['space left']);
  });
});

describe('refs that are too old to be given', () => {
  const items = ['a', 'a0', 'b', 'c'].map(id => version(id, 30 * DAY_MS));
  const refs = [
    ref('b', 'b', null, 8 * DAY_MS),
    ref('a', 'a', 'a0', 9 * DAY_MS),
    ref('c', 'c', null, 6 * DAY_MS),
  ];

  test('are forgotten with their snapshots at the very last, least recently confirmed first', () => {
    expect(removed(planned(inventoryOf(items, refs), { maxBytes: 300, neededBytes: 100 }))).toEqual([
      'too_stale ref a',
      'too_stale a',
      'too_stale a0',
    ]);
  });

  test('stay while others or nothing must go, and what another ref has stays with it', () => {
    expect(removed(planned(inventoryOf(items, refs), { maxBytes: 400 }))).toEqual([]);
    const both = [...refs, ref('d', 'a', null, HOUR_MS)];
    expect(removed(planned(inventoryOf(items, both), { maxBytes: 300 }))).toEqual([
      'too_stale ref a',
      'too_stale a0',
    ]);
  });

  test('stay where they are configured or not ours alone; then space is lacking', () => {
    const kept = refs.map(item => ({ ...item, isExpendable: false }));
    expect(planned(inventoryOf(items, kept), { maxBytes: 300 })).toMatchObject({
      removals: [],
      shortBytes: 100,
    });
  });
});

describe('what nothing but old questions keep', () => {
  const asked = (id: string, ageMs: number, uri = `models:/churn/${id}`): RefItem => ({
    ...ref(id, id, null, ageMs),
    uri: parseModelUri(uri),
  });
  const items = ['1', '2', '3'].map(id => version(id, DAY_MS));
  const refs = [asked('2', 2 * HOUR_MS), asked('1', 3 * HOUR_MS), asked('3', HOUR_MS)];

  test('goes where space is needed, least recently used first, and only as much as it takes', () => {
    expect(removed(planned(inventoryOf(items, refs), { maxBytes: 300 }))).toEqual([]);
    expect(removed(planned(inventoryOf(items, refs), { maxBytes: 300, neededBytes: 150 }))).toEqual([
      'unused ref 1',
      'unused 1',
      'unused ref 2',
      'unused 2',
    ]);
  });

  test('is a version by its number, a logged model or a path of a run; a stage, an alias or latest is not', () => {
    const uris = [
      'models:/m-1',
      'runs:/r/model',
      'models:/a/1',
      'models:/a@b',
      'models:/a/latest',
      'models:/a/Staging',
    ];
    const all = uris.map((uri, at) => asked(String(at), HOUR_MS, uri));
    const plan = planned(
      inventoryOf(
        uris.map((_, at) => version(String(at), DAY_MS)),
        all,
      ),
      { maxBytes: 0 },
    );
    const gone = plan.removals.flatMap(removal => (removal.kind === 'snapshot' ? [removal.item.id] : []));
    expect(gone).toEqual(['0', '1', '2']);
  });

  test('stays where a moving ref has it, too, or where it is configured', () => {
    const also = [...refs, ref('churn', '1', '2', HOUR_MS)];
    expect(removed(planned(inventoryOf(items, also), { maxBytes: 0 }))).toEqual(['unused ref 3', 'unused 3']);
    const configured = refs.map(item => ({ ...item, isExpendable: false }));
    expect(planned(inventoryOf(items, configured), { maxBytes: 200 })).toMatchObject({
      removals: [],
      holders:
        'models:/churn/2 (1 version, 100 bytes), models:/churn/1 (1 version, 100 bytes), models:/churn/3 (1 version, 100 bytes)',
    });
  });

  test('goes in the last place where it was given within minutes, and the last one not within half a minute', () => {
    const young = [
      asked('1', GIVEN_GRACE_MS),
      asked('2', GIVEN_GRACE_MS - 1),
      asked('3', READER_GRACE_MS - 1),
      ref('old', 'stale', null, 30 * DAY_MS),
    ];
    const all = inventoryOf([...items, version('stale', 30 * DAY_MS)], young);
    const plan = planned(all, { maxBytes: 0 });
    expect(removed(plan)).toEqual([
      'unused ref 1',
      'unused 1',
      'too_stale ref old',
      'too_stale stale',
      'unused ref 2',
      'unused 2',
    ]);
    expect(plan).toMatchObject({ gracedBytes: 100, shortBytes: 0 });
  });

  test('goes once, with all its refs, though it is too old to be given, too', () => {
    const both = [asked('1', 30 * DAY_MS, 'runs:/r/model'), asked('1', 30 * DAY_MS)];
    const used = version('1', MINUTE_MS);
    expect(removed(planned(inventoryOf([used], both), { maxBytes: 0 }))).toEqual([
      'too_stale ref 1',
      'too_stale ref 1',
    ]);
  });
});

describe('what does not count as contents', () => {
  const MIB = 1_048_576;

  test('counts above the first MiB: directories, records, asynchronous reloads and kept answers', () => {
    const items = [1, 2, 3].map(n => version(String(n), n * HOUR_MS, 100, { overheadBytes: MIB }));
    expect(planned(inventoryOf(items.slice(1, 2)))).toMatchObject({ usedBytes: 100 });
    const inventory = inventoryOf(items, [], { stateBytes: 10 });
    expect(planned(inventory, { maxBytes: 3 * MIB })).toMatchObject({
      usedBytes: 2 * MIB + 310,
      removals: [],
    });
    const plan = planned(inventory, { maxBytes: MIB + 1_000 });
    expect(removed(plan)).toEqual(['space 3']);
    expect(plan).toMatchObject({ freedBytes: MIB + 100, freedOverheadBytes: MIB, shortBytes: 0 });
  });

  test('of a download that is being made a snapshot counts once', () => {
    const arrived = blob('arrived', 800, { links: 0, changedAt: NOW });
    const plan = planned(inventoryOf([], [], { blobs: [arrived] }), { reservedBytes: 800, neededBytes: 100 });
    expect(plan).toMatchObject({ usedBytes: 800, gracedBytes: 800, shortBytes: 0 });
  });

  /** As many callers' credentials as `count`, each with one model; the first one was used longest ago. */
  const callers = (count: number, ageMs: number) => {
    const ids = Array.from({ length: count }, (_, n) => `s${n}`);
    const refs = ids.map((id, n) => ({
      ...ref(id, id, null, ageMs - n),
      scopeId: id,
      path: `state/scopes/${id}/m.json`,
    }));
    return inventoryOf(
      ids.map((id, n) => version(id, ageMs - n, 1)),
      refs,
    );
  };

  test('is limited in number, however much room there is: scopes of callers', () => {
    const plan = planned(callers(MOST_SCOPES + 2, HOUR_MS), { maxBytes: 1e9 });
    expect(removed(plan)).toEqual(['litter ref scopes', 'litter s0', 'litter ref scopes', 'litter s1']);
    expect(planned(callers(MOST_SCOPES + 2, MINUTE_MS), { maxBytes: 1e9 }).removals).toEqual([]);
  });

  test('is limited in number, however much room there is: snapshots that nothing points to, once they are a day old', () => {
    const items = Array.from({ length: 1_002 }, (_, n) => version(`v${n}`, 2 * DAY_MS - n, 1));
    expect(removed(planned(inventoryOf(items), { maxBytes: 1e9 }))).toEqual(['litter v0', 'litter v1']);
    const young = items.map(item => ({ ...item, lastUsedAt: NOW - HOUR_MS }));
    expect(planned(inventoryOf(young), { maxBytes: 1e9 }).removals).toEqual([]);
  });

  test('goes once it is a day old: a record that gives nothing and that nobody configured', () => {
    const there = version('there', HOUR_MS);
    const empty = (name: string, ageMs: number) => ({
      ...ref(name, null),
      confirmedAt: null,
      notedAt: NOW - ageMs,
    });
    const refs = [
      empty('old', DAY_MS),
      empty('young', HOUR_MS),
      { ...empty('configured', DAY_MS), isExpendable: false },
      ref('gone', 'is not there', null, DAY_MS),
      ref('there', 'there'),
    ];
    expect(removed(planned(inventoryOf([there], refs)))).toEqual(['litter ref old', 'litter ref gone']);
    // A disk that shows no snapshot at all does not say that each of them is gone.
    expect(planned(inventoryOf([], refs)).removals).toEqual([]);
  });
});

const anInventory = fc
  .record({
    versions: fc.array(
      fc.record({
        ageMs: fc.integer({ min: 0, max: 3 * DAY_MS }),
        blobs: fc.array(fc.nat(9), { maxLength: 4 }),
        isSuperseded: fc.boolean(),
        hasManifest: fc.boolean(),
      }),
      { maxLength: 12 },
    ),
    refs: fc.array(
      fc.record({
        current: fc.option(fc.nat(11)),
        previous: fc.option(fc.nat(11)),
        ageMs: fc.integer({ min: 0, max: 14 * DAY_MS }),
        isExpendable: fc.boolean(),
        isNumbered: fc.boolean(),
      }),
      { maxLength: 6 },
    ),
    sizes: fc.array(fc.nat(300), { minLength: 10, maxLength: 10 }),
    isCopying: fc.boolean(),
    spares: fc.array(
      fc.record({ bytes: fc.nat(300), changedAt: fc.integer({ min: NOW - 2 * DAY_MS, max: NOW }) }),
      { maxLength: 4 },
    ),
    underWayBytes: fc.nat(200),
  })
  .map(({ versions, refs, sizes, isCopying, spares, underWayBytes }): Inventory => {
    const holders = (at: number) => versions.filter(one => one.blobs.includes(at)).length;
    const blobs = sizes.map((size, at) => blob(`b${at}`, size, { links: isCopying ? 0 : holders(at) }));
    const snapshots = versions.map((one, at) =>
      snapshot(
        `s${at}`,
        one.ageMs,
        [...new Set(one.blobs)].flatMap(index => blobs[index] ?? []),
        {
          isSuperseded: one.isSuperseded,
          manifest: one.hasManifest ? `m${at}` : null,
        },
      ),
    );
    const items = refs.map((one, at) => ({
      ...ref(`r${at}`, idOf(one.current), idOf(one.previous), one.ageMs),
      isExpendable: one.isExpendable,
      ...(one.isNumbered ? { uri: parseModelUri(`models:/r${at}/1`) } : {}),
    }));
    const parts = spares.map((one, at) => ({ ...one, path: `p${at}` }));
    return { snapshots, refs: items, blobs, orphans: [], spares: parts, underWayBytes, stateBytes: 0 };
  });

function idOf(at: number | null): string | null {
  return at === null ? null : `s${at}`;
}

const aSpace = fc.record({
  maxBytes: fc.nat(3_000),
  minFreeBytes: fc.nat(200),
  freeBytes: fc.nat(2_000),
  reservedBytes: fc.nat(200),
  unwrittenBytes: fc.nat(200),
  neededBytes: fc.nat(1_000),
});

/** What the cache holds without what a plan removes, counted anew. */
function bytesWithout(inventory: Inventory, removals: readonly Removal[]): number {
  const gone = new Set(removals.flatMap(removal => (removal.kind === 'snapshot' ? [removal.item] : [])));
  const dropped = new Set(
    removals.flatMap(removal =>
      removal.kind === 'snapshot' ? removal.blobs : removal.kind === 'blob' ? [removal.item] : [],
    ),
  );
  const copies = inventory.snapshots.filter(item => !gone.has(item)).flatMap(item => item.blobs);
  const all = [
    ...inventory.blobs.filter(item => !dropped.has(item)),
    ...copies.filter(item => item.links === 0),
  ];
  const sparesGone = new Set(removals.flatMap(removal => (removal.kind === 'spare' ? [removal.item] : [])));
  const spared = inventory.spares.filter(item => !sparesGone.has(item));
  return (
    all.reduce((sum, { size }) => sum + size, 0) +
    spared.reduce((sum, { bytes }) => sum + bytes, inventory.underWayBytes)
  );
}

function property(check: (inventory: Inventory, plan: CollectPlan, space: Space) => void): void {
  fc.assert(
    fc.property(anInventory, aSpace, (inventory, space) =>
      check(inventory, planned(inventory, space), space),
    ),
    { numRuns: 2_000 },
  );
}

describe('for any cache and any need', () => {
  test('what a remaining ref keeps, or what is too young, is not removed, nor any of its contents', () => {
    property((inventory, { removals }) => {
      const forgotten = new Set(removals.flatMap(removal => (removal.kind === 'ref' ? [removal.item] : [])));
      const kept = new Set(inventory.refs.filter(item => !forgotten.has(item)).flatMap(keptBy));
      for (const removal of removals) {
        if (removal.kind === 'ref') expect(removal.item.isExpendable).toBe(true);
        if (removal.kind !== 'snapshot') continue;
        const { lastUsedAt, isSuperseded } = removal.item;
        expect<unknown>(kept).not.toContain(removal.item.id);
        if (removal.why === 'unused') continue;
        expect(NOW - lastUsedAt).toBeGreaterThanOrEqual(isSuperseded ? READER_GRACE_MS : IN_FLIGHT_GRACE_MS);
      }
      const gone = removals.flatMap(removal => (removal.kind === 'snapshot' ? [removal.item] : []));
      const needed = new Set(
        inventory.snapshots.filter(item => !gone.includes(item)).flatMap(item => item.blobs),
      );
      const dropped = removals.flatMap(removal =>
        removal.kind === 'snapshot' ? removal.blobs : removal.kind === 'blob' ? [removal.item] : [],
      );
      expect(dropped.filter(item => needed.has(item))).toEqual([]);
      expect(new Set(dropped).size).toBe(dropped.length);
    });
  });

  test('it frees what it says, and there is room then, or it says how much is lacking', () => {
    property((inventory, plan, space) => {
      const left = bytesWithout(inventory, plan.removals);
      expect(plan.usedBytes - plan.freedBytes).toBe(left);
      const byQuota = left - plan.gracedBytes + space.reservedBytes + space.neededBytes - space.maxBytes;
      const room = plan.usedBytes + space.freeBytes - space.minFreeBytes;
      const byDisk = left + space.unwrittenBytes + space.neededBytes - room;
      expect(plan.shortBytes).toBe(Math.max(0, byQuota, byDisk));
    });
  });

  test('nothing is lacking while anything could go', () => {
    property((inventory, plan) => {
      if (plan.shortBytes === 0) return;
      const kept = new Set(inventory.refs.flatMap(keptBy));
      const gone = new Set(
        plan.removals.flatMap(removal => (removal.kind === 'snapshot' ? [removal.item] : [])),
      );
      const couldGo = inventory.snapshots.filter(
        item =>
          !kept.has(item.id) &&
          !gone.has(item) &&
          NOW - item.lastUsedAt >= (item.isSuperseded ? READER_GRACE_MS : IN_FLIGHT_GRACE_MS),
      );
      expect(couldGo).toEqual([]);
      const spares = plan.removals.filter(removal => removal.kind === 'spare');
      expect(spares).toHaveLength(inventory.spares.length);
    });
  });

  test('no version goes for space while anything else could', () => {
    property((inventory, { removals }) => {
      const spares = removals.filter(removal => removal.kind === 'spare');
      if (spares.length === inventory.spares.length) return;
      const reasons = removals.map(({ kind, why: reason }) => `${kind} ${reason}`);
      expect(reasons).not.toContain('snapshot space');
      expect(reasons).not.toContain('ref too_stale');
    });
  });

  test('of what goes for one reason, the least recently used goes first', () => {
    property((_, { removals }) => {
      for (const why of ['superseded', 'space']) {
        const times = removals.flatMap(removal =>
          removal.kind === 'snapshot' && removal.why === why ? [removal.item.lastUsedAt] : [],
        );
        expect(times).toEqual(times.toSorted((a, b) => a - b));
      }
    });
  });
});
