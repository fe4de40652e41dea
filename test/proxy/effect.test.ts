import { expect, test } from 'vitest';
import { changedArtifact, effectOf, isWrite } from '../../src/proxy/effect.ts';
import { OTHER_ROUTES } from '../support/mlflow-routes.ts';

test.each([
  ['done', [200, 201, 202, 204, 207, 299]],
  ['none', [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 429, 499, 501, 505]],
  ['unknown', [303, 500, 502, 503, 504, 507, 520, 599]],
] as const)('a request that is answered so did this to MLflow: %s', (effect, statuses) => {
  for (const status of statuses) expect([status, effectOf(status)]).toEqual([status, effect]);
});

test('of all that MLflow answers, what only asks changes nothing', () => {
  const routes = OTHER_ROUTES.map(route => route.split(' '));
  const asking = routes.filter(([method = '', path = '']) => !isWrite(method, path));
  expect(asking.filter(([method]) => method !== 'GET').map(([, path]) => path)).toEqual([
    '/api/3.0/mlflow/datasets/search',
    '/api/3.0/mlflow/issues/search',
    '/api/3.0/mlflow/prompt-optimization/jobs/search',
    '/api/3.0/mlflow/traces/batchGetInfos',
    '/api/3.0/mlflow/traces/calculate-filter-correlation',
    '/api/3.0/mlflow/traces/metrics',
    '/api/3.0/mlflow/traces/search',
  ]);
  expect(routes.filter(([method]) => method === 'GET').length).toBe(
    asking.filter(([method]) => method === 'GET').length,
  );
});

test('an artifact is changed by what writes or removes it, and by the end of an upload in parts', () => {
  const changed = OTHER_ROUTES.flatMap(route => {
    const [method = '', path = ''] = route.split(' ');
    return isWrite(method, path) && changedArtifact(path) !== null ? [route] : [];
  });
  expect(changed.toSorted()).toEqual([
    'DELETE /api/2.0/mlflow-artifacts/artifacts/x',
    'POST /api/2.0/mlflow-artifacts/mpu/complete/x',
    'PUT /api/2.0/mlflow-artifacts/artifacts/x',
  ]);
  expect(changedArtifact('/api/2.0/mlflow-artifacts/artifacts/0/a%20b/c')).toEqual(['0', 'a b', 'c']);
});
