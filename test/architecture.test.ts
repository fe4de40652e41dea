import { readdir, readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');
const MAX_LINES = 250;

/** From the street door to the cellar. A room imports from the levels below its own, and from itself. */
const LEVELS: readonly (readonly string[])[] = [
  ['main.ts'],
  ['cli'],
  ['app.ts'],
  ['core.ts'],
  ['core-proxy.ts'],
  ['http', 'telemetry'],
  ['jobs', 'proxy', 'prewarm'],
  ['reload'],
  ['registry', 'artifacts', 'store'],
  ['upstream'],
  ['policy'],
  ['config'],
  ['domain'],
];

/** The store's rooms, likewise. What is beside them puts them together. */
const STORE: readonly string[] = ['collect', 'verify', 'records', 'intake', 'disk'];

const IMPORT =
  /^\s*(?:import|export)\s(?:[^'";]*?\sfrom\s+)?'(?<static>[^']+)'|\bimport\(\s*'(?<dynamic>[^']+)'/gm;

interface Source {
  readonly path: string;
  readonly room: string;
  readonly lines: number;
  /** Files of ours that it imports, types included. */
  readonly imports: readonly string[];
}

async function readSources(): Promise<readonly Source[]> {
  const entries = await readdir(SRC, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile() && entry.name.endsWith('.ts'));
  return Promise.all(files.map(async file => readSource(join(file.parentPath, file.name))));
}

async function readSource(file: string): Promise<Source> {
  const text = await readFile(file, 'utf8');
  return {
    path: relative(SRC, file),
    room: roomOf(relative(SRC, file)),
    lines: text.split('\n').length - 1,
    imports: importsOf(text).map(target => relative(SRC, resolve(file, '..', target))),
  };
}

function importsOf(text: string): readonly string[] {
  return [...text.matchAll(IMPORT)]
    .map(match => match.groups?.['static'] ?? match.groups?.['dynamic'] ?? '')
    .filter(target => target.startsWith('.'));
}

function roomOf(path: string): string {
  return path.split('/')[0] ?? path;
}

function levelOf(room: string): number {
  return LEVELS.findIndex(rooms => rooms.includes(room));
}

function findCycle(graph: ReadonlyMap<string, readonly string[]>): readonly string[] | null {
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): readonly string[] | null => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return null;
    for (const next of graph.get(path) ?? []) {
      const cycle = visit(next, [...trail, path]);
      if (cycle !== null) return cycle;
    }
    done.add(path);
    return null;
  };
  for (const path of graph.keys()) {
    const cycle = visit(path, []);
    if (cycle !== null) return cycle;
  }
  return null;
}

const sources = await readSources();

test('the imports are seen', () => {
  const imports = sources.flatMap(source => source.imports);
  expect(imports.length).toBeGreaterThan(sources.length);
  const known = new Set(sources.map(source => source.path));
  expect(imports.filter(target => !known.has(target))).toEqual([]);
  expect(
    importsOf("import { a } from './a.ts';\nimport {\n  b,\n} from '../b.ts';\nimport './c.ts';"),
  ).toEqual(['./a.ts', '../b.ts', './c.ts']);
  expect(importsOf("export type { D } from './d.ts';\nawait import('./e.ts');")).toEqual([
    './d.ts',
    './e.ts',
  ]);
});

test('every room has its level', () => {
  expect(sources.filter(source => levelOf(source.room) < 0).map(source => source.path)).toEqual([]);
});

test('imports point one way', () => {
  const against = sources.flatMap(source =>
    source.imports
      .filter(target => roomOf(target) !== source.room && levelOf(roomOf(target)) <= levelOf(source.room))
      .map(target => `${source.path} imports ${target}`),
  );
  expect(against).toEqual([]);
});

test('within the store, too', () => {
  const levelInStore = (path: string) => STORE.indexOf(path.split('/')[1] ?? '');
  const inside = sources.filter(({ path, room }) => room === 'store' && levelInStore(path) >= 0);
  expect(new Set(inside.map(({ path }) => levelInStore(path))).size).toBe(STORE.length);
  const against = inside.flatMap(({ path, imports }) =>
    imports
      .filter(target => levelInStore(target) >= 0 && roomOf(target) === 'store')
      .filter(target => levelInStore(target) < levelInStore(path))
      .map(target => `${path} imports ${target}`),
  );
  expect(against).toEqual([]);
});

test('no import leads back to where it began', () => {
  expect(
    findCycle(
      new Map([
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['b']],
      ]),
    ),
  ).toEqual(['b', 'c', 'b']);
  expect(findCycle(new Map(sources.map(source => [source.path, source.imports])))).toBeNull();
});

test(`no source file has more than ${MAX_LINES} lines`, () => {
  expect(sources.filter(source => source.lines > MAX_LINES).map(source => source.path)).toEqual([]);
});
