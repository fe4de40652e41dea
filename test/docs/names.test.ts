import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { run } from '../../src/cli/program.ts';
import { flagOf, keyOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { SCRIPTS } from './commands.ts';
import { codeOf, documents, ROOT } from './markdown.ts';
import { rowFaults, valueFaults } from './names.ts';
import { SERIES } from './promql.ts';
import { pythonFaults } from './python.ts';
import { routeFault } from './routes.ts';
import { WORDS } from './words.ts';

const COMMANDS = ['serve', 'fetch', 'reload', 'status', 'verify', 'gc'];
/** Read by clients: the Python helper and the commands, MLflow's own. */
const OF_CLIENTS = ['SIDECAR_URL'];
/** Flags of MLflow's server, Docker and Helm that stand alone in a text. */
const OF_OTHERS: readonly string[] = ['--serve-artifacts', '--allowed-hosts', '--volumes', '--set'];

const texts = await allTexts();
const all = await documents();
/** The flags of each command; of none those of the program. */
const flags = new Map<string, ReadonlySet<string>>();

/** What people read and copy. */
async function allTexts(): Promise<ReadonlyMap<string, string>> {
  const patterns = [
    '*.md',
    'Dockerfile',
    '{docs,clients,examples,helm}/**/*.{md,yaml,yml,tpl,txt,json,py,example}',
  ];
  const read = globSync(patterns, { cwd: ROOT }).map(
    async path => [path, await readFile(join(ROOT, path), 'utf8')] as const,
  );
  return new Map(await Promise.all(read));
}

beforeAll(async () => {
  for (const command of ['', ...COMMANDS]) {
    const help = await helpOf(command);
    flags.set(command, new Set(help.match(/(?<![\w-])--[a-z][a-z-]*/g) ?? []));
  }
});

async function helpOf(command: string): Promise<string> {
  const written: string[] = [];
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation(text => written.push(String(text)) > 0);
  try {
    await run([...(command === '' ? [] : [command]), '--help'], {});
  } finally {
    spy.mockRestore();
  }
  return written.join('');
}

test('every variable of ours that is named anywhere is an option, or one that clients read', () => {
  const known = new Set([...OPTION_SPECS.map(({ name }) => name), ...OF_CLIENTS]);
  const faults = [...texts].flatMap(([path, text]) =>
    [...text.matchAll(/(?<![\w$])(?:SIDECAR|MLFLOW)_[A-Z\d_]*[A-Z\d]/g)]
      .map(([name]) => name)
      .filter(name => !known.has(name))
      .map(name => `${path}: ${name}`),
  );
  expect(texts.size).toBeGreaterThan(30);
  expect(faults).toEqual([]);
});

test('every flag that a text names is one of a command of ours, or known to be another program’s', () => {
  const ours = new Set(OPTION_SPECS.map(flagOf).concat([...flags.values()].flatMap(set => [...set])));
  const faults = spans().flatMap(({ where, code }) => {
    const [, command] = /^(?:mlflow-sidecar )?([a-z]+)/.exec(code) ?? [];
    const allowed = (command === undefined ? null : flags.get(command)) ?? ours;
    if (!/^(?:mlflow-sidecar|--)/.test(code) && !flags.has(command ?? '')) return [];
    return (code.match(/(?<![\w-])--[a-z][\w-]*/g) ?? [])
      .filter(flag => !allowed.has(flag) && !(command === undefined && OF_OTHERS.includes(flag)))
      .map(flag => `${where}: ${flag}`);
  });
  expect(faults).toEqual([]);
});

test('every command of ours that a text names exists', () => {
  const named = spans().flatMap(({ where, code }) => {
    const [, command] = /^mlflow-sidecar ([a-z]+)/.exec(code) ?? [];
    return command === undefined ? [] : { where, command };
  });
  expect(named.length).toBeGreaterThan(5);
  expect(named.filter(({ command }) => !COMMANDS.includes(command))).toEqual([]);
});

test('every script of npm that a text names exists', () => {
  const named = spans().flatMap(({ where, code }) => {
    const [, script] = /^npm run (\S+)/.exec(code) ?? [];
    return script === undefined ? [] : { where, script };
  });
  expect(named.length).toBeGreaterThan(3);
  expect(named.filter(({ script }) => !Object.hasOwn(SCRIPTS, script))).toEqual([]);
});

test('every flag in a row about a command is one of that command', () => {
  const rows = all.flatMap(({ path, prose }) =>
    prose.flatMap((line, at) => rowFaults(line, flags).map(fault => `${path}:${at + 1}: ${fault}`)),
  );
  expect(rows).toEqual([]);
  expect(rowFaults('| `gc [--dry-run]` | removes; `--cache-dir`, `--deadline` |', flags)).toEqual([
    'gc takes no --deadline',
  ]);
});

test('every value that a text gives to an option is one', () => {
  const faults = spans().flatMap(({ where, code }) => valueFaults(code).map(fault => `${where}: ${fault}`));
  expect(faults).toEqual([]);
  expect(valueFaults('SIDECAR_PREWARM="*/5 * * *"')).toEqual([
    expect.stringContaining('SIDECAR_PREWARM=*/5 * * * is no schedule'),
  ]);
  expect(valueFaults('SIDECAR_PROXY=all, MLFLOW_HTTP_REQUEST_MAX_RETRIES=1')).toHaveLength(1);
});

test('every route that a text names exists', () => {
  const named = spans().flatMap(({ where, code }) =>
    /^(?:[A-Z]+ )?\/\S*$/.test(code) ? [{ where, fault: routeFault(code) }] : [],
  );
  const endpoints = [...texts].flatMap(([path, text]) =>
    [...text.matchAll(/endpoint="([^"{]+)"/g)].map(([, endpoint]) => ({
      where: path,
      fault: routeFault(`/${endpoint}`),
    })),
  );
  expect(named.length).toBeGreaterThan(50);
  expect(endpoints.length).toBeGreaterThan(3);
  expect([...named, ...endpoints].filter(({ fault }) => fault !== null)).toEqual([]);
  expect(
    ['/healtz', '/v1/modles', 'DELETE /v1/models', '/metrics/x', '/v1/models/a/reload'].map(routeFault),
  ).toEqual([
    '/healtz is no route',
    '/v1/modles is no route',
    'DELETE /v1/models takes GET alone',
    '/metrics/x is no route',
    null,
  ]);
});

test('every metric that a text names exists', () => {
  const faults = [...texts].flatMap(([path, text]) => metricFaults(text).map(name => `${path}: ${name}`));
  expect(faults).toEqual([]);
  expect(metricFaults('mlflow_sidecar_reloads and mlflow_sidecar_reloads_total')).toEqual([
    'mlflow_sidecar_reloads',
  ]);
});

function metricFaults(text: string): readonly string[] {
  return (text.match(/\bmlflow_sidecar_\w+/g) ?? []).filter(name => !SERIES.has(name));
}

test('every call of the helper that a text shows can be made', async () => {
  const calls = spans().filter(({ code }) => /^(?:model_path|reload|watch)\(/.test(code));
  expect(calls.length).toBeGreaterThan(2);
  const faults = await pythonFaults(calls.map(({ code }) => code.replace(', …)', ')')));
  expect(calls.map(({ where }, at) => ({ where, faults: faults[at] }))).toEqual(
    calls.map(({ where }) => ({ where, faults: [] })),
  );
  expect(await pythonFaults(['reload(uri, deadline=3)'])).toEqual([[expect.stringContaining('deadline')]]);
});

test('every word with underscores that a text names is one of ours, or known to be another program’s', () => {
  const words = spans().filter(({ code }) => /^[a-z][a-z\d]*(?:_[a-z\d]+)+$/.test(code));
  expect(words.length).toBeGreaterThan(200);
  expect(words.filter(({ code }) => !WORDS.has(code))).toEqual([]);
  expect(['prewarm_finish', 'blob_broken', 'deadline_ms'].filter(word => WORDS.has(word))).toEqual([]);
});

test('every option can be found in the texts by each of its names', () => {
  const configuration = texts.get(join('docs', 'configuration.md')) ?? '';
  const names = OPTION_SPECS.flatMap(spec => [spec.name, flagOf(spec), keyOf(spec)]);
  expect(names.filter(name => name !== null && !configuration.includes(`\`${name}\``))).toEqual([]);
});

/** Everything in backticks, outside of blocks. */
function spans(): readonly { readonly where: string; readonly code: string }[] {
  return all.flatMap(({ path, prose }) =>
    prose.flatMap((line, at) => codeOf(line).map(code => ({ where: `${path}:${at + 1}`, code }))),
  );
}
