import { expect, test } from 'vitest';
import { scopeOf } from '../../src/domain/scope.ts';

test('only the sidecar’s own credential is its own scope', () => {
  expect(scopeOf('http://mlflow:5000', null, null).own).toBe(true);
  expect(scopeOf('http://mlflow:5000', null, 'Bearer x').own).toBe(false);
});

test('the same registry, workspace and credential are the same scope, also after a restart', () => {
  const { id } = scopeOf('http://mlflow:5000', 'team', 'Bearer x');
  expect(scopeOf('http://mlflow:5000', 'team', 'Bearer x').id).toBe(id);
  expect(id).toMatch(/^[0-9a-f]{32}$/);
});

test('another registry, workspace or credential is another scope', () => {
  const ids = [
    scopeOf('http://a', null, null),
    scopeOf('http://b', null, null),
    scopeOf('http://a', 'team', null),
    scopeOf('http://a', 'other', null),
    scopeOf('http://a', null, 'team'),
    scopeOf('http://a', null, 'Basic x'),
    scopeOf('http://a', null, 'Bearer x'),
    scopeOf('http://a","team', null, null),
  ].map(scope => scope.id);
  expect(new Set(ids).size).toBe(ids.length);
});

test('a scope’s id does not show the credential', () => {
  expect(scopeOf('http://a', null, 'Bearer geheim').id).not.toContain('geheim');
});
