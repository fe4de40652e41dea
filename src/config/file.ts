import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { errnoOf } from '../domain/errors.ts';
import type { Fault } from './faults.ts';
import type { Raw, RawItem } from './raw.ts';
import { keyOf } from './spec.ts';
import { nearest } from './spelling.ts';
import { OPTION_SPECS, OPTIONS } from './table.ts';

/** The options that a YAML file holds, by key; every value is taken as the texts that stand there. */
export interface FileContent {
  readonly values: ReadonlyMap<string, Raw>;
  readonly faults: readonly Fault[];
}

const KEYS = OPTION_SPECS.map(keyOf).filter(key => key !== null);

/** Reads the file at `path`; `writtenAs` and `path` name it in its faults. */
export function readConfigFile(path: string, writtenAs: string): FileContent {
  const broken = (message: string): FileContent => ({
    values: new Map(),
    faults: [{ option: writtenAs, value: JSON.stringify(path), message }],
  });
  let content: unknown;
  try {
    content = parseYaml(readFileSync(path, 'utf8'));
  } catch (error) {
    return broken(error instanceof YamlFault ? error.message : `cannot be read (${errnoOf(error)})`);
  }
  if (content === null) return { values: new Map(), faults: [] };
  if (!(content instanceof Map)) return broken('must hold a mapping of options to values');
  return checkedEntries(path, content);
}

class YamlFault extends Error {}

/** The library's own messages are not shown, since they quote the file, secrets included. */
function parseYaml(text: string): unknown {
  // Failsafe: no type is guessed, so that a token of digits stays as it stands.
  const document = parseDocument(text, { schema: 'failsafe', logLevel: 'silent' });
  const error = document.errors[0];
  if (error !== undefined) {
    const line = error.linePos?.[0].line ?? 1;
    throw new YamlFault(
      `is not YAML: ${error.code.toLowerCase().replaceAll('_', ' ')} in line ${line}. Quote what begins with * or @, as schedules do`,
    );
  }
  try {
    return document.toJS({ mapAsMap: true });
  } catch {
    throw new YamlFault('is not YAML: an alias has no anchor, or there are too many of them');
  }
}

function checkedEntries(path: string, content: ReadonlyMap<unknown, unknown>): FileContent {
  const values = new Map<string, Raw>();
  const faults: Fault[] = [];
  for (const [key, value] of content) {
    const option = `${String(key)} in ${path}`;
    if (typeof key !== 'string' || !KEYS.includes(key)) {
      faults.push({
        option: typeof key === 'string' ? option : `a key in ${path}`,
        value: null,
        message: unknownKey(key),
      });
    } else if (isRaw(value)) {
      values.set(key, value);
    } else {
      faults.push({ option, value: null, message: listAdvice(key) });
    }
  }
  return { values, faults };
}

function listAdvice(key: string): string {
  const models = key === keyOf(OPTIONS.models) ? ', or of { uri, prewarm }, both texts' : '';
  return `must be a text, or a list of texts${models}`;
}

function unknownKey(key: unknown): string {
  if (typeof key !== 'string') return 'is not a text';
  const near = nearest(key.replace(/^SIDECAR_/i, '').replaceAll('-', '_'), KEYS);
  return near === null
    ? `is not an option. Options: ${KEYS.join(', ')}`
    : `is not an option. Did you mean ${near}?`;
}

function isRaw(value: unknown): value is Raw {
  return typeof value === 'string' || (Array.isArray(value) && value.every(isItem));
}

function isItem(value: unknown): value is RawItem {
  return (
    typeof value === 'string' ||
    (value instanceof Map && [...value].flat().every(text => typeof text === 'string'))
  );
}
