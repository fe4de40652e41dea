import { describe, expect, test } from 'vitest';
import { findRead, listingOf, type Read, readOf, stagesOf, textOf } from '../../src/proxy/reads.ts';

type Below = Parameters<typeof findRead>[1];

function get(path: string, query = '', below: Below = '2.0/mlflow'): Read {
  return asked('GET', path, query, null, below);
}

function post(path: string, body: Record<string, unknown> | null, query = ''): Read {
  return asked('POST', path, query, body, '2.0/mlflow');
}

function asked(
  method: string,
  path: string,
  query: string,
  body: Record<string, unknown> | null,
  below: Below,
): Read {
  const found = findRead(method, below, path.split('/'));
  if (found === null) throw new Error(`${method} ${path} is no read`);
  return readOf(found, new URLSearchParams(query), body);
}

describe('of a read', () => {
  test('by GET the query is asked as it came', () => {
    const read = get('model-versions/get', 'name=a%20b&version=3&other=%26');
    expect(read).toMatchObject({ route: 'model-versions/get', server: 'registry' });
    expect(read.question).toEqual({
      path: 'model-versions/get',
      passes: 'read',
      query: [
        ['name', 'a b'],
        ['version', '3'],
        ['other', '&'],
      ],
    });
    expect([textOf(read, 'name'), textOf(read, 'version'), textOf(read, 'stage')]).toEqual([
      'a b',
      '3',
      null,
    ]);
  });

  test('by HEAD it is what it is by GET', () => {
    expect(findRead('HEAD', '2.0/mlflow', ['runs', 'get'])).toEqual(
      findRead('GET', '2.0/mlflow', ['runs', 'get']),
    );
    expect(findRead('HEAD', '2.0/mlflow', ['runs', 'search'])).toBeNull();
  });

  test('by POST only the body counts', () => {
    const read = post(
      'registered-models/get-latest-versions',
      { name: 'a', stages: ['Production'] },
      'name=b',
    );
    expect(read.question).toEqual({
      path: 'registered-models/get-latest-versions',
      passes: 'read',
      body: { name: 'a', stages: ['Production'] },
    });
    expect(textOf(read, 'name')).toBe('a');
    expect(stagesOf(read)).toEqual(['Production']);
    expect(post('runs/search', null).question.body).toEqual({});
  });

  test('the server that knows, and since when', () => {
    expect(get('runs/get', 'run_id=1')).toMatchObject({ server: 'tracking' });
    expect(get('logged-models/m-1')).toMatchObject({
      route: 'logged-models/*',
      server: 'tracking',
      question: { path: 'logged-models/m-1', sinceMlflow3: true },
    });
    expect(get('server-info', '', '3.0/mlflow').question).toEqual({
      path: 'server-info',
      below: '3.0/mlflow',
      sinceMlflow3: true,
      maxBytes: 16 * 1024,
      query: [],
    });
  });

  test('the model’s id is one segment, whatever is in it', () => {
    const read = get('logged-models/a?b%#');
    expect(read.question.path).toBe('logged-models/a%3Fb%25%23');
    expect(textOf(read, 'model_id')).toBe('a?b%#');
  });

  test('stages may stand in the query as often as there are some', () => {
    const read = get('registered-models/get-latest-versions', 'name=a&stages=Production&stages=Staging');
    expect(stagesOf(read)).toEqual(['Production', 'Staging']);
    expect(stagesOf(get('registered-models/get-latest-versions', 'name=a'))).toEqual([]);
  });

  test('a value that is no text is none', () => {
    const read = post('registered-models/get-latest-versions', {
      name: ['a'],
      stages: ['Production', 1, null],
    });
    expect(textOf(read, 'name')).toBeNull();
    expect(stagesOf(read)).toEqual(['Production']);
  });

  // By one of them it would be looked up whether it is allowed, and MLflow would answer the other.
  test.each([
    'name=open&name=secret',
    'name=&name=secret',
    'version=1&name=a&version=2',
    'run_id=1&run_id=1',
  ])('nobody guesses which of two values is meant: %s', query => {
    expect(() => get('model-versions/get', query)).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
  });

  test('a body nested without end is refused', () => {
    const deep: unknown = JSON.parse(`${'['.repeat(30_000)}${']'.repeat(30_000)}`);
    expect(() => post('runs/search', { filter: deep })).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
    expect(() => post('logged-models/search', { order_by: [{ dataset: { name: 'a' } }] })).not.toThrow();
  });
});

describe('no read is', () => {
  test.each<[string, Below, string]>([
    ['POST', '2.0/mlflow', 'registered-models/get'],
    ['GET', '2.0/mlflow', 'runs/search'],
    ['PATCH', '2.0/mlflow', 'logged-models/m-1'],
    ['GET', '2.0/mlflow', 'logged-models'],
    ['GET', '2.0/mlflow', 'logged-models/m-1/artifacts'],
    ['GET', '3.0/mlflow', 'registered-models/get'],
    ['GET', '2.0/mlflow', 'server-info'],
    ['GET', '2.0/mlflow', 'artifacts'],
    ['GET', '2.0/mlflow', 'constructor'],
    ['GET', '2.0/mlflow', '__proto__'],
    ['GET', '2.0/mlflow', 'Registered-Models/Get'],
    ['GET', '2.0/mlflow', 'registered-models/get/x'],
    ['GET', '2.0/mlflow', ''],
  ])('%s %s/%s', (method, below, path) => {
    expect(findRead(method, below, path.split('/'))).toBeNull();
  });
});

describe('the key', () => {
  const latest = (body: Record<string, unknown>) => post('registered-models/get-latest-versions', body).key;

  test('is one for one question', () => {
    const key = get('model-versions/get', 'name=a&version=1').key;
    expect(get('model-versions/get', 'version=1&name=a').key).toBe(key);
    expect(latest({ name: 'a', stages: [] })).toBe(latest({ stages: [], name: 'a' }));
  });

  test('is another for each other', () => {
    const keys = [
      ...['name=a&version=1', 'name=a', 'name=1&version=a', 'name=a%26version%3D1', ''].map(
        query => get('model-versions/get', query).key,
      ),
      get('registered-models/get', 'name=a').key,
      get('registered-models/get-latest-versions', 'name=a').key,
      ...[{}, { name: 'a' }, { name: ['a'] }, { name: null }, { name: 1 }, { name: '1' }].map(latest),
      ...[
        { stages: ['a', 'b'] },
        { stages: ['b', 'a'] },
        { stages: [['a', 'b']] },
        { stages: { a: 'b' } },
      ].map(latest),
      ...[{ stages: [{ a: 'b' }] }, { stages: { entries: [['a', 'b']] } }].map(latest),
      latest(JSON.parse('{"__proto__": {"name": "a"}}')),
      ...['', 'a', 'a/b', 'path=a'].map(path => listingOf(path).key),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });
});

test('a listing asks the artifact server for one directory', () => {
  expect(listingOf('0/a b').question).toEqual({
    path: 'artifacts',
    below: '2.0/mlflow-artifacts',
    passes: 'read',
    query: [['path', '0/a b']],
  });
  expect(listingOf('').question.query).toEqual([]);
});
