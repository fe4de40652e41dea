import { describe, expect, test } from 'vitest';
import { scopeOf } from '../../src/domain/scope.ts';
import type { ArtifactRoot } from '../../src/domain/version.ts';
import { commitAll, fetched, OWN, ofVersion, openStore, ROOT, reopen, takeAll } from './support.ts';

const OTHER = scopeOf('http://mlflow:5000', null, 'Bearer other');
const PATH = '0/models/m-1/artifacts/data/model.pkl';
const URI = { kind: 'stage', name: 'churn', stage: 'Production' } as const;
const WANTED = ofVersion(ROOT);
const KNOWN = [{ scope: OWN, root: ROOT }];

describe('a version whose files may have been changed', () => {
  test('is fetched anew, and until then what was there before is known, also after a restart', async () => {
    const opened = await openStore();
    const { snapshot } = await commitAll(opened.store, { MLmodel: 'one' });
    await opened.store.doubts.change({ path: PATH, scope: null }, KNOWN);
    for (const { store } of [opened, await reopen(opened)]) {
      if (store === opened.store) continue;
      expect(store.doubts.has(OWN, WANTED)).toBe(true);
      expect(await store.find(OWN, WANTED)).toBeNull();
      expect(await store.find(OWN, WANTED, 'before')).toMatchObject({ snapshot });
      const { snapshot: now } = await commitAll(store, { MLmodel: 'two' });
      expect(await store.find(OWN, WANTED)).toMatchObject({ snapshot: now });
      expect(store.doubts.has(OWN, WANTED)).toBe(false);
      expect(await store.find(OWN, WANTED, 'before')).toBeNull();
    }
  });

  test('is of the caller’s own scope alone, unless MLflow took the change', async () => {
    const { store } = await openStore();
    for (const scope of [OWN, OTHER]) await commitAll(store, { MLmodel: 'one' }, ROOT, scope);
    const known = [...KNOWN, { scope: OTHER, root: ROOT }];
    await store.doubts.change({ path: PATH, scope: OTHER }, known);
    expect([OWN, OTHER].map(scope => store.doubts.has(scope, WANTED))).toEqual([false, true]);
    await store.doubts.change({ path: PATH, scope: null }, known);
    expect([OWN, OTHER].map(scope => store.doubts.has(scope, WANTED))).toEqual([true, true]);
  });

  test('is each that is published from there, in whatever scope, and none beside', async () => {
    const { store } = await openStore();
    const roots: readonly ArtifactRoot[] = [
      ['mlflow-artifacts:/0/models/m-1/artifacts'],
      ['mlflow-artifacts:/0/models/m-2/artifacts'],
    ];
    for (const [at, scope] of [OWN, OTHER].entries()) {
      const published = await fetched(store, String(at + 1), scope);
      await store.refs.publish(
        scope,
        URI,
        { ...published, root: roots[at], fetchedFor: WANTED.version },
        1,
        Date.now(),
      );
    }
    await store.doubts.change({ path: '0/models/m-2', scope: null }, []);
    expect(store.doubts.has(OWN, ofVersion(['mlflow-artifacts:/0/models/m-1/artifacts']))).toBe(false);
    expect(store.doubts.has(OTHER, ofVersion(['mlflow-artifacts:/0/models/m-2/artifacts']))).toBe(true);
    await store.doubts.change({ path: '0/models/m-3', scope: null }, KNOWN);
    expect(store.doubts.has(OWN, WANTED)).toBe(false);
  });

  test('and is unknown here is not doubted', async () => {
    const { store } = await openStore();
    await store.doubts.change({ path: PATH, scope: null }, KNOWN);
    expect([!store.doubts.isEmpty, await store.find(OWN, WANTED, 'before')]).toEqual([false, null]);
  });

  test('stays so where they were on their way while they were changed', async () => {
    const { store } = await openStore();
    const fetching = store.doubts.begin(OWN, ROOT);
    const intake = await store.intake();
    const manifest = await takeAll(intake, { MLmodel: 'half' });
    await store.doubts.change({ path: PATH, scope: null }, []);
    expect(fetching.isOutdated).toBe(true);
    const { snapshot } = await store.commit(OWN, WANTED, manifest, intake, fetching);
    expect(await store.find(OWN, WANTED)).toBeNull();
    expect(await store.find(OWN, WANTED, 'before')).toMatchObject({ snapshot });
    // One that was begun after that counts, whenever the other ends.
    const { snapshot: newer } = await commitAll(store, { MLmodel: 'whole' });
    await store.commit(OWN, WANTED, manifest, intake, fetching);
    expect(await store.find(OWN, WANTED)).toMatchObject({ snapshot: newer });
    await intake.close();
    store.doubts.end(fetching);
  });

  test('is what every URI of it gives, once it was fetched anew', async () => {
    const { store } = await openStore();
    const { root: _, ...published } = await fetched(store, '1');
    await store.refs.publish(OWN, URI, { ...published, root: ROOT, fetchedFor: WANTED.version }, 1, 1_000);
    await store.doubts.change({ path: PATH, scope: null }, []);
    expect(store.refs.get(OWN, URI).published).toMatchObject({ snapshot: published.snapshot });
    const { snapshot } = await commitAll(store, { MLmodel: 'version: 1, again' });
    const ref = store.refs.get(OWN, URI);
    expect([ref.published?.snapshot, ref.previous, ref.confirmedAt]).toEqual([
      snapshot,
      published.snapshot,
      1_000,
    ]);
  });
});
