import { execFile } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { type Manifest, manifestOf } from '../../src/domain/manifest.ts';
import { type Scope, scopeOf } from '../../src/domain/scope.ts';
import type { ArtifactRoot, ModelVersion, VersionRoot } from '../../src/domain/version.ts';
import type { Intake } from '../../src/store/intake/intake.ts';
import type { FetchedRoot } from '../../src/store/records/manifest-file.ts';
import type { Published } from '../../src/store/records/ref-record.ts';
import { Store } from '../../src/store/store.ts';

export const OWN = scopeOf('http://mlflow:5000', null, null);
export const ROOT: ArtifactRoot = ['mlflow-artifacts:/0/models/m-1/artifacts'];

/** Removed at the test's end. */
export async function temporaryDirectory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-store-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** Until the test's end nothing more is done on the disk: each of libuv's threads opens a pipe that nobody writes to. */
export async function hangThreads(): Promise<void> {
  const path = join(await temporaryDirectory(), 'pipe');
  await promisify(execFile)('mkfifo', [path]);
  const threads = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);
  const opened = Promise.all(Array.from({ length: threads }, () => open(path)));
  onTestFinished(async () => {
    // Not by a thread: there is none.
    const writer = openSync(path, 'r+');
    for (const reader of await opened) await reader.close();
    closeSync(writer);
  });
}

export interface Opened {
  readonly dir: string;
  readonly store: Store;
  readonly events: readonly SidecarEvent[];
}

/** In a directory of its own unless one is given; closed at the test's end. */
export async function openStore(dir?: string, own: Scope = OWN): Promise<Opened> {
  const cacheDir = dir ?? (await temporaryDirectory());
  const events: SidecarEvent[] = [];
  const bus = new EventBus();
  bus.subscribe(event => events.push(event));
  const store = await Store.open(cacheDir, own, systemClock, bus);
  onTestFinished(() => store.close());
  return { dir: cacheDir, store, events };
}

/** As one that was closed and comes back. */
export async function reopen(opened: Opened, own: Scope = OWN): Promise<Opened> {
  await opened.store.close();
  return await openStore(opened.dir, own);
}

export async function* bodyOf(...chunks: readonly (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

/** Takes the files in; their manifest. */
export async function takeAll(intake: Intake, files: Readonly<Record<string, string>>): Promise<Manifest> {
  const taken = Object.entries(files).map(async ([path, content]) => {
    const blob = await intake.take(bodyOf(content), Buffer.byteLength(content));
    return { path, ...blob };
  });
  return manifestOf(await Promise.all(taken));
}

/** As some version has it. */
export function ofVersion(root: ArtifactRoot): VersionRoot {
  return { root, version: 'a'.repeat(32) };
}

/** Takes the files in and makes a snapshot of them. */
export async function commitAll(
  store: Store,
  files: Readonly<Record<string, string>>,
  root: ArtifactRoot = ROOT,
  scope: Scope = OWN,
): Promise<FetchedRoot> {
  const intake = await store.intake();
  try {
    return await store.commit(scope, ofVersion(root), await takeAll(intake, files), intake);
  } finally {
    await intake.close();
  }
}

export function versionOf(version: string, name = 'churn'): ModelVersion {
  return {
    name,
    version,
    stage: 'Production',
    aliases: [],
    runId: `run-${version}`,
    modelId: null,
    createdMs: 1_731_358_595_000 + Number(version),
    source: `mlflow-artifacts:/0/models/m-${version}/artifacts`,
  };
}

/** Files, snapshot and all of one version, ready to be published. */
export async function fetched(store: Store, version: string, scope: Scope = OWN): Promise<Published> {
  const content = { MLmodel: `version: ${version}\n`, 'data/model.pkl': 'shared' };
  const { snapshot, manifest } = await commitAll(store, content, [versionOf(version).source], scope);
  const { digest, files, bytes } = manifest;
  return { version: versionOf(version), snapshot, digest, files: files.length, bytes };
}

/** Every file and link below, relative and sorted. */
export async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .toSorted();
}

/** Work in progress that nobody finished or removed. */
export async function litter(dir: string): Promise<readonly string[]> {
  return (await filesBelow(join(dir, 'v1', 'tmp'))).filter(path => !path.endsWith('/owner.json'));
}
