import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { z } from 'zod';
import type { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { contentOf, filesBelow, filesOf, pathsOf, readSnapshot, type Shape, THOUSAND } from './content.ts';

export const NAME = 'thousand';
export const REF = 'Production';

const Seen = z.object({ rounds: z.number(), versions: z.array(z.string()), faults: z.array(z.string()) });

/** A cache directory that other users can reach, unlike what mkdtemp makes. */
export async function makeCache(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-crash-'));
  await chmod(dir, 0o755);
  return dir;
}

export async function removeCache(dir: string): Promise<void> {
  // Where a test failed somebody may still be writing.
  await rm(dir, { recursive: true, force: true, maxRetries: 5 });
}

export function refPath(cacheDir: string, name = NAME): string {
  return join(cacheDir, 'v1', 'models', name, REF);
}

const Model = z.object({ refs: z.array(z.object({ ref: z.string(), version: z.string().nullable() })) });

/** The version that the sidecar says is published. */
export async function shownVersion(url: string, name = NAME): Promise<string | null> {
  const response = await fetch(`${url}/v1/models/${name}`);
  const { refs } = Model.parse(await response.json());
  return refs.find(({ ref }) => ref === REF)?.version ?? null;
}

/** The next version of the model, in production, with contents of its own. */
export function addVersion(upstream: ScriptedMlflow, shape: Shape = THOUSAND, name = NAME): string {
  const version = String(upstream.models.versionsOf(name).length + 1);
  upstream.addVersion({ name, version, stage: REF, files: filesOf(version, shape) });
  return version;
}

export interface Reader {
  stop(): Promise<z.infer<typeof Seen>>;
}

/** Starts a process of so many readers of the ref, by `via` if given, which has read it; the end of the test is its end, too. */
export async function startReader(ref: string, readers = 1, via: readonly string[] = []): Promise<Reader> {
  const script = fileURLToPath(new URL('./reader.ts', import.meta.url));
  const [execPath, ...execArgv] = [...via, process.execPath];
  const child = fork(script, [ref, String(readers)], { execPath, execArgv, stdio: 'inherit' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'message');
  return {
    stop: async () => {
      const told = once(child, 'message');
      const ended = once(child, 'exit');
      child.send('stop');
      const [seen] = await told;
      await ended;
      return Seen.parse(seen);
    },
  };
}

/** What must hold of a cache that nobody works on but the process `pid`: a list of everything that is wrong. */
export async function faultsOf(cacheDir: string, pid: number): Promise<readonly string[]> {
  const root = join(cacheDir, 'v1');
  const faults: string[] = [];
  for (const name of await readdir(join(root, 'tmp'))) {
    if (!name.startsWith(`${pid}-`)) faults.push(`tmp/${name} is left of a dead process`);
  }
  for (const name of await filesBelow(join(root, 'tmp'))) {
    if (!name.endsWith('/owner.json')) faults.push(`tmp/${name} is work that nobody does`);
  }
  const digests = new Set<string>();
  for (const id of await readdir(join(root, 'snapshots'))) {
    const dir = join(root, 'snapshots', id);
    try {
      const { version, shape } = await readSnapshot(dir);
      const files = (await filesBelow(dir)).length;
      if (files !== pathsOf(shape).length) faults.push(`${dir}: ${files} files of ${version}`);
      for (const path of pathsOf(shape)) digests.add(sha256(contentOf(version, path, shape)));
    } catch (error) {
      faults.push(String(error));
    }
  }
  for (const name of await filesBelow(join(root, 'blobs', 'sha256'))) {
    const digest = sha256(await readFile(join(root, 'blobs', 'sha256', name)));
    if (!name.endsWith(`/${digest}`)) faults.push(`blob ${name} holds ${digest}`);
    if (!digests.has(digest)) faults.push(`blob ${name} belongs to no snapshot`);
  }
  return faults;
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Numbers in [0, 1) that a seed gives again (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The seed of a test's random numbers; CRASH_SEED repeats a run. */
export function givenSeed(): number {
  const seed = Number(process.env['CRASH_SEED'] ?? Date.now() % 1_000_000);
  console.log(`CRASH_SEED=${seed}`);
  return seed;
}

/** As `Promise.all`, but nothing goes on after a failure. */
export async function allOf<T>(works: readonly Promise<T>[]): Promise<readonly T[]> {
  await Promise.allSettled(works);
  return await Promise.all(works);
}
