import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadOptions } from '../../src/config/load.ts';
import { flagOf } from '../../src/config/spec.ts';
import { nearest } from '../../src/config/spelling.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { file, MLFLOW } from './support.ts';

describe('variables that are no options', () => {
  const warnings = (env: Record<string, string>) =>
    loadOptions({ env: { ...MLFLOW, ...env }, flags: {} }).warnings;

  test('a misspelt one is a warning with what it may mean, and without its value', () => {
    expect(warnings({ SIDECAR_TOKEM: 's3cret', SIDECAR_QQQQQQQQ: '1' })).toEqual([
      'SIDECAR_TOKEM is not an option and is ignored. Did you mean SIDECAR_TOKEN?',
      'SIDECAR_QQQQQQQQ is not an option and is ignored.',
    ]);
  });

  test('those that Kubernetes makes for services, and those of clients, are not worth a word', () => {
    expect(
      warnings({
        SIDECAR_SERVICE_HOST: '10.0.0.1',
        SIDECAR_SERVICE_PORT: '5080',
        SIDECAR_SERVICE_PORT_HTTP: '5080',
        SIDECAR_PORT_5080_TCP: 'tcp://10.0.0.1:5080',
        SIDECAR_PORT_5080_TCP_ADDR: '10.0.0.1',
        SIDECAR_METRICS_PORT: 'tcp://10.0.0.1:9090',
        SIDECAR_URL: 'http://127.0.0.1:5080',
        OTHER: '1',
      }),
    ).toEqual([]);
  });
});

test('a word is suggested only where it is near', () => {
  expect(nearest('prot', ['port', 'host'])).toBe('port');
  expect(nearest('reload_deadlin_s', ['reload_deadline_s', 'reload_deadline_max_s'])).toBe(
    'reload_deadline_s',
  );
  expect(nearest('x', ['port', 'host'])).toBeNull();
  expect(nearest('y'.repeat(100_000), ['port'])).toBeNull();
});

const texts = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.webUrl(),
  fc.constantFrom(
    'http://',
    'http://[',
    'models:/',
    'models:/a@',
    '\0',
    '~',
    '/',
    '-1',
    '1e999',
    'http://a:b@c:99999',
    '%',
  ),
);

test('no environment, no flags crash the loader', () => {
  const names = OPTION_SPECS.map(spec => spec.name);
  const flags = OPTION_SPECS.map(flagOf).filter(flag => flag !== null);
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...names), texts),
      fc.dictionary(fc.constantFrom(...flags), texts),
      (env, given) => {
        const { options, faults } = loadOptions({ env, flags: given });
        expect(options === null).toBe(faults !== null);
      },
    ),
    { numRuns: 500 },
  );
});

test('no file crashes the loader', () => {
  const keys = fc.constantFrom('port', 'models', 'token', '__proto__', 'constructor', '<<');
  const lines = fc.array(
    fc.oneof(
      texts,
      fc.tuple(keys, texts).map(([key, text]) => `${key}: ${text}`),
    ),
  );
  fc.assert(
    fc.property(lines, content => {
      const config = file(content.join('\n'));
      expect(loadOptions({ env: MLFLOW, flags: { '--config': config } })).toHaveProperty('warnings');
    }),
    { numRuns: 200 },
  );
});
