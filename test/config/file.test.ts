import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { faults, file } from './support.ts';

describe('the file', () => {
  test('a misspelt key is named with what it may mean, and without its value', () => {
    const config = file('tokn: s3cret\nSIDECAR_PORT: 1\nreload-deadline-s: 5\nzzzzzz: 1\n');
    expect(faults({ SIDECAR_CONFIG: config })).toEqual([
      `tokn in ${config} is not an option. Did you mean token?`,
      `SIDECAR_PORT in ${config} is not an option. Did you mean port?`,
      `reload-deadline-s in ${config} is not an option. Did you mean reload_deadline_s?`,
      expect.stringMatching(/^zzzzzz in .* is not an option. Options: mlflow_tracking_uri, /),
    ]);
  });

  const BROKEN: readonly [string, string, RegExp][] = [
    ['not YAML', 'a: [', /is not YAML: .* in line 1/],
    ['a key twice', 'port: 1\nport: 2', /is not YAML: duplicate key in line 2/],
    ['an unknown alias', 'token: *s3cret', /is not YAML/],
    ['a list', '- port', /must hold a mapping/],
    ['a mapping as a value', 'port: { a: s3cret }', /^port in .* must be a text/],
    ['a list where a text is due', 'port: [1]', /^port in .*="1" is a list/],
    ['a mapping in a list where texts are due', 'file_roots: [{ a: b }]', /"a":"b".* is a mapping/],
    [
      'a model with an unknown key',
      'models: [{ uri: "models:/a/1", cron: x }]',
      /holds cron, and may hold uri and prewarm/,
    ],
    ['a model without a URI', 'models: [{ prewarm: "* * * * *" }]', /holds no uri/],
    ['a model with a bad URI', 'models: [{ uri: x }]', /"uri":"x".* is not a model URI/],
    [
      'a model with a bad schedule',
      'models: [{ uri: "models:/a/1", prewarm: daily }]',
      /has a prewarm that is no schedule/,
    ],
    ['a model that holds a list', 'models: [{ uri: [a] }]', /must be a text, or a list/],
    [
      'a model with two schedules',
      'models: [models:/a/1, { uri: "models:/a/1", prewarm: "@daily" }]',
      /names models:\/a\/1 twice, with two schedules/,
    ],
    [
      'a schedule without quotes',
      'prewarm: */5 * * * *',
      /is not YAML: .* in line 1. Quote what begins with \* or @/,
    ],
    [
      'models that are no list',
      'models: { uri: models:/a/1 }',
      /^models in .* must be a text, .* or of { uri, prewarm }/,
    ],
    ['a key that is a list', '[a]: 1', /^a key in .* is not a text/],
    ['an alias bomb', bomb(), /is not YAML|must be a text/],
  ];
  test.each(BROKEN)('%s', (_case, content, words) => {
    const lines = faults({ SIDECAR_CONFIG: file(content) });
    expect(lines[0]).toMatch(words);
    expect(lines.join('\n')).not.toContain('s3cret');
  });

  test('a directory is none', () => {
    const dir = join(dirname(file('')), 'dir');
    mkdirSync(dir);
    expect(faults({}, { '--config': dir })[0]).toMatch(/^--config=".*" is a directory/);
  });
});

function bomb(): string {
  const levels = Array.from(
    { length: 9 },
    (_, i) =>
      `l${i}: &a${i} [${Array(9)
        .fill(i === 0 ? 'x' : `*a${i - 1}`)
        .join(', ')}]`,
  );
  return levels.join('\n');
}
