import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import {
  formatModelUri,
  type ModelUri,
  nameFault,
  parseModelUri,
  refKey,
} from '../../src/domain/model-uri.ts';

function faultOf(text: string): SidecarError {
  try {
    parseModelUri(text);
  } catch (error) {
    if (error instanceof SidecarError) return error;
  }
  throw new Error(`${text} was taken`);
}

describe('every form is parsed', () => {
  test.each<[string, ModelUri]>([
    ['models:/churn/Production', { kind: 'stage', name: 'churn', stage: 'Production' }],
    ['models:/churn/production', { kind: 'stage', name: 'churn', stage: 'Production' }],
    ['models:/churn/STAGING', { kind: 'stage', name: 'churn', stage: 'Staging' }],
    ['models:/churn/none', { kind: 'stage', name: 'churn', stage: 'None' }],
    ['models:/churn/aRCHIVED', { kind: 'stage', name: 'churn', stage: 'Archived' }],
    ['models:/churn/canary', { kind: 'stage', name: 'churn', stage: 'canary' }],
    ['models:/churn@champion', { kind: 'alias', name: 'churn', alias: 'champion' }],
    ['models:/a b@c', { kind: 'alias', name: 'a b', alias: 'c' }],
    ['models:/a@b@c', { kind: 'alias', name: 'a@b', alias: 'c' }],
    ['models:/a@b/3', { kind: 'version', name: 'a@b', version: '3' }],
    ['models:/churn/3', { kind: 'version', name: 'churn', version: '3' }],
    ['models:/churn/003', { kind: 'version', name: 'churn', version: '3' }],
    ['models:/churn/2147483647', { kind: 'version', name: 'churn', version: '2147483647' }],
    ['models:/churn/latest', { kind: 'latest', name: 'churn' }],
    ['models:/churn/Latest', { kind: 'latest', name: 'churn' }],
    ['models:/m-0123abcd', { kind: 'logged_model', modelId: 'm-0123abcd' }],
    ['models:/m-abc/1', { kind: 'version', name: 'm-abc', version: '1' }],
    ['models:/m-abc@prod', { kind: 'alias', name: 'm-abc', alias: 'prod' }],
    ['models:/..a/1', { kind: 'version', name: '..a', version: '1' }],
    ['models:/100 %/1', { kind: 'version', name: '100 %', version: '1' }],
    ['models:/%2e%2e/1', { kind: 'version', name: '%2e%2e', version: '1' }],
    ['models:/Grüße 模型/1', { kind: 'version', name: 'Grüße 模型', version: '1' }],
    ['runs:/0123abcd/model', { kind: 'run', runId: '0123abcd', path: 'model' }],
    ['runs:/0123abcd/model/data/x', { kind: 'run', runId: '0123abcd', path: 'model/data/x' }],
    ['runs:/0123abcd//model/', { kind: 'run', runId: '0123abcd', path: 'model' }],
  ])('%s', (text, expected) => {
    expect(parseModelUri(text)).toEqual(expected);
  });
});

describe('what is no model URI is an invalid_request that says why', () => {
  test.each<[string, RegExp]>([
    ['', /is not a model URI/],
    ['churn', /is not a model URI/],
    ['Models:/churn/1', /is not a model URI/],
    ['file:///etc/passwd', /is not a model URI/],
    ['models:/', /no stage, alias or version/],
    ['models:/name', /no stage, alias or version/],
    ['models:/m-', /no stage, alias or version/],
    ['models:/name/', /no stage, alias or version/],
    ['models:/name/ ', /no stage, alias or version/],
    ['models:/name@', /names no alias/],
    ['models:/@champion', /empty name/],
    ['models://1', /empty name/],
    ['models:/ /1', /empty name/],
    ['models:/a/b/1', /too many parts/],
    ['models:/a/../1', /too many parts/],
    ['models:/../1', /relative path/],
    ['models:/./1', /relative path/],
    ['models:/..@a', /relative path/],
    ['models:/a:b/1', /"\/", ":" or a control character/],
    ['models:/a\0b/1', /control character/],
    ['models:/a\r\nHost: evil/1', /control character/],
    ['models:/a/1\u007f', /control character/],
    ['models:/name/0', /outside 1 to 2147483647/],
    ['models:/name/000', /outside 1 to 2147483647/],
    ['models:/name/2147483648', /outside 1 to 2147483647/],
    ['models:/name/99999999999999999999999', /outside 1 to 2147483647/],
    ['runs:/', /no run id/],
    ['runs:/id', /names no artifact path/],
    ['runs:/id/', /names no artifact path/],
    ['runs:/id/../x', /relative path segment/],
    ['runs:/id/x/..', /relative path segment/],
    ['runs:/id/./x', /relative path segment/],
    ['runs:/../x', /no run id/],
    ['runs:/a b/x', /no run id/],
  ])('%j', (text, why) => {
    const fault = faultOf(text);
    expect(fault.code).toBe('invalid_request');
    expect(fault.message).toMatch(why);
    expect(fault.hint).toContain('models:/name/Production');
  });
});

test('a name of 260 characters is taken, and one of 500', () => {
  for (const length of [260, 500]) {
    const name = 'n'.repeat(length);
    expect(parseModelUri(`models:/${name}/1`)).toEqual({ kind: 'version', name, version: '1' });
  }
});

test('a name of 501 characters is refused', () => {
  expect(faultOf(`models:/${'n'.repeat(501)}/1`).message).toMatch(/longer than 500 characters/);
  expect(nameFault('n'.repeat(501))).toBe('has a name longer than 500 characters');
});

test('a URI of more than 800 bytes is refused without being repeated in full', () => {
  const { message } = faultOf(`models:/name/${'s'.repeat(800)}`);
  expect(message).toMatch(/longer than 800 bytes/);
  expect(message.length).toBeLessThan(200);
});

const nameText = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 });
const name = nameText.filter(text => nameFault(text) === null);
const nonEmpty = nameText.filter(text => text.trim() !== '' && !text.includes('/') && isPrintable(text));
const segment = nonEmpty.filter(text => text !== '.' && text !== '..');
const id = fc.stringMatching(/^[a-z0-9_-]{1,40}$/);

function isPrintable(text: string): boolean {
  return Array.from(text).every(char => char >= ' ' && char !== '\u007f');
}

const anyUri: fc.Arbitrary<string> = fc.oneof(
  fc.tuple(name, nonEmpty).map(([n, stage]) => `models:/${n}/${stage}`),
  fc
    .tuple(
      name,
      nonEmpty.filter(text => !text.includes('@')),
    )
    .map(([n, alias]) => `models:/${n}@${alias}`),
  fc.tuple(name, fc.integer({ min: 1, max: 2_147_483_647 })).map(([n, version]) => `models:/${n}/${version}`),
  name.map(n => `models:/${n}/latest`),
  id.map(text => `models:/m-${text}`),
  fc
    .tuple(id, fc.array(segment, { minLength: 1, maxLength: 5 }))
    .map(([run, path]) => `runs:/${run}/${path.join('/')}`),
);

function parsed(text: string): ModelUri | null {
  try {
    return parseModelUri(text);
  } catch {
    return null;
  }
}

test('the canonical text of whatever parses is parsed to the same, and is its own canonical text', () => {
  fc.assert(
    fc.property(anyUri, text => {
      const uri = parsed(text);
      fc.pre(uri !== null);
      const canonical = formatModelUri(uri);
      expect(parseModelUri(canonical)).toEqual(uri);
      expect(formatModelUri(parseModelUri(canonical))).toBe(canonical);
    }),
  );
});

test('any text at all is either a model URI or an invalid_request', () => {
  const prefix = fc.constantFrom('', 'models:/', 'runs:/', 'models:/a', 'models:/a/', 'models:/a@');
  fc.assert(
    fc.property(prefix, fc.string({ unit: 'binary', maxLength: 80 }), (start, rest) => {
      const text = start + rest;
      const uri = parsed(text);
      if (uri === null) expect(faultOf(text).code).toBe('invalid_request');
      else expect(parseModelUri(formatModelUri(uri))).toEqual(uri);
    }),
  );
});

describe('where a URI stands on disk', () => {
  test.each([
    ['models:/churn/production', 'churn', 'Production'],
    ['models:/churn@champion', 'churn', '@champion'],
    ['models:/churn/canary', 'churn', 'stage:canary'],
    ['models:/churn/3', 'churn', '3'],
    ['models:/churn/LATEST', 'churn', 'latest'],
    ['models:/m-abc', 'm-abc', 'logged'],
    ['runs:/abc/model/x', 'runs:abc', 'model/x'],
  ])('%s', (text, expectedName, ref) => {
    expect(refKey(parseModelUri(text))).toEqual({ name: expectedName, ref });
  });

  test.each([
    ['models:/churn@champion', 'models:/churn/@champion'],
    ['models:/m-abc', 'models:/m-abc/logged'],
    ['models:/churn/3', 'models:/churn@3'],
    ['runs:/abc/model', 'models:/runs/model'],
  ])('%s and %s, which are different refs, do not share a place', (one, other) => {
    expect(formatModelUri(parseModelUri(one))).not.toBe(formatModelUri(parseModelUri(other)));
    expect(refKey(parseModelUri(one))).not.toEqual(refKey(parseModelUri(other)));
  });
});
