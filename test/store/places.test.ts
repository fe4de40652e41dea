import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { fetched, filesBelow, OWN, openStore, reopen } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const CALLERS = scopeOf('http://mlflow:5000', null, 'Bearer x');

describe('two credentials', () => {
  test('never see each other’s versions', async () => {
    const { store, dir } = await openStore();
    await store.refs.publish(CALLERS, URI, await fetched(store, '1', CALLERS), 1, 100);
    expect(store.refs.get(OWN, URI).published).toBeNull();
    expect(store.refs.all(OWN)).toEqual([]);
    expect(store.refs.knows(OWN, 'models:/churn/Production')).toBe(false);
    expect(store.refs.all(CALLERS)).toHaveLength(1);
    expect(store.refs.entries()).toHaveLength(1);
    expect(await filesBelow(join(dir, 'v1/models'))).toEqual([]);
    expect(await filesBelow(join(dir, 'v1/refs'))).toEqual([]);
    expect(await filesBelow(join(dir, 'v1/state/scopes'))).toEqual([`${CALLERS.id}/churn/Production.json`]);
  });

  test('each find their own again after a restart', async () => {
    const opened = await openStore();
    await opened.store.refs.publish(CALLERS, URI, await fetched(opened.store, '1', CALLERS), 1, 100);
    await opened.store.refs.publish(OWN, URI, await fetched(opened.store, '2'), 1, 100);
    const { store } = await reopen(opened);
    expect(store.refs.get(CALLERS, URI).published?.version.version).toBe('1');
    expect(store.refs.get(OWN, URI).published?.version.version).toBe('2');
  });
});

describe('a name that MLflow allows is a place of its own', () => {
  test.each([
    ['models:/a b@c', 'a%20b/@c'],
    ['models:/a@b/1', 'a%40b/1'],
    ['models:/100%/latest', '100%25/latest'],
    ['models:/v1.2/Staging', 'v1.2/Staging'],
    ['models:/...@..', '%2E../@%2E.'],
    ['models:/模型/Production', '%E6%A8%A1%E5%9E%8B/Production'],
    ['models:/m-0123', 'm-0123/logged'],
    ['runs:/abc/model/x', 'runs%3Aabc/model%2Fx'],
  ])('%s', async (text, place) => {
    const opened = await openStore();
    const uri = parseModelUri(text);
    const published = await fetched(opened.store, '1');
    await opened.store.refs.publish(OWN, uri, published, 1, 100);
    const link = join(opened.dir, 'v1/models', place);
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect(await readFile(join(link, 'MLmodel'), 'utf8')).toBe('version: 1\n');
    const { store } = await reopen(opened);
    expect(store.refs.get(OWN, uri).published).toEqual(published);
  });

  test('of 260 characters, and another that differs in the last one', async () => {
    const opened = await openStore();
    const uris = ['a', 'b'].map(last => parseModelUri(`models:/${'n'.repeat(259)}${last}/Production`));
    for (const [at, uri] of uris.entries()) {
      await opened.store.refs.publish(OWN, uri, await fetched(opened.store, String(at + 1)), 1, 100);
    }
    expect(await readdir(join(opened.dir, 'v1/models'))).toHaveLength(2);
    const { store } = await reopen(opened);
    expect(uris.map(uri => store.refs.get(OWN, uri).published?.version.version)).toEqual(['1', '2']);
  });
});
