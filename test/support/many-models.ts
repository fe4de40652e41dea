import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { type ModelUri, parseModelUri, refKey } from '../../src/domain/model-uri.ts';
import { type Scope, scopeOf } from '../../src/domain/scope.ts';
import { Layout } from '../../src/store/disk/layout.ts';
import { serializeRef } from '../../src/store/records/ref-record.ts';

const AT_ONCE = 200;

/** Writes into an empty cache what a sidecar of `registryUri` leaves that has published so many models: one snapshot for all. */
export async function writeModels(cacheDir: string, registryUri: string, count: number): Promise<void> {
  const layout = new Layout(cacheDir);
  const scope = scopeOf(registryUri, null, null);
  const snapshot = '0'.repeat(32);
  await mkdir(layout.snapshot(snapshot), { recursive: true });
  for (let from = 0; from < count; from += AT_ONCE) {
    const uris = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, n) =>
      // Not in the order of their names.
      parseModelUri(`models:/model-${String((from + n) * 7_919).padStart(9, '0')}/Production`),
    );
    await Promise.all(uris.map(uri => writeRecord(layout, scope, uri, snapshot)));
  }
}

async function writeRecord(layout: Layout, scope: Scope, uri: ModelUri, snapshot: string): Promise<void> {
  const path = layout.record(scope, refKey(uri));
  const { name } = refKey(uri);
  const version = {
    name,
    version: '1',
    stage: 'Production',
    aliases: [],
    runId: 'a'.repeat(32),
    modelId: null,
    createdMs: 1_700_000_000_000,
    source: `mlflow-artifacts:/0/${'a'.repeat(32)}/artifacts/model`,
  };
  const ref = {
    uri,
    resolved: { version: '1', at: Date.now() },
    published: { version, snapshot, digest: 'sha256:00', files: 7, bytes: 48_318 },
    previous: null,
    confirmedAt: Date.now(),
    refusedAt: null,
  };
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, serializeRef(ref, scope.id));
  const link = layout.link(refKey(uri));
  await mkdir(dirname(link), { recursive: true });
  await symlink(relative(dirname(link), layout.snapshot(snapshot)), link);
}
