import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { z } from 'zod';
import type { MlflowAt } from '../support/python-client.ts';

const BIG_BYTES = 64 * 1024 * 1024;
const FILE = 'weights.bin';
const NAME = 'written through the sidecar';

const Run = z.object({ info: z.object({ run_id: z.string() }) });
const Versions = z.array(z.object({ version: z.string(), current_stage: z.string() }));
const File = z.object({ path: z.string(), sha256: z.string() });

/** Logs a run, and reads back what it says of it; gives its id. */
export async function logsRun({ gives }: MlflowAt): Promise<string> {
  const experiment_id = z.string().parse(await gives('create_experiment', { name: NAME }));
  const { run_id } = Run.parse(await gives('create_run', { experiment_id })).info;
  await gives('log_param', { run_id, key: 'depth', value: 3 });
  for (const step of [1, 2]) await gives('log_metric', { run_id, key: 'loss', value: 1 / step, step });
  await gives('set_tag', { run_id, key: 'team', value: 'churn' });
  expect(await gives('get_run', { run_id })).toMatchObject({
    info: { status: 'RUNNING' },
    data: { params: { depth: '3' }, metrics: { loss: 0.5 }, tags: { team: 'churn' } },
  });
  const history = [
    { step: 1, value: 1 },
    { step: 2, value: 0.5 },
  ];
  expect(await gives('get_metric_history', { run_id, key: 'loss' })).toMatchObject(history);
  await gives('set_terminated', { run_id });
  const search = { experiment_ids: [experiment_id], filter_string: "params.depth = '3'" };
  expect(await gives('search_runs', search)).toMatchObject([{ info: { run_id, status: 'FINISHED' } }]);
  return run_id;
}

/** Sends a run a large file, and then another by the same name, and has each back. */
export async function logsArtifacts({ gives }: MlflowAt, run_id: string): Promise<void> {
  for (const size of [BIG_BYTES, 1_000]) {
    const { path: local_path, sha256 } = File.parse(await gives('make_file', { name: FILE, size }));
    await gives('log_artifact', { run_id, local_path, artifact_path: 'model' });
    const listed = { path: `model/${FILE}`, is_dir: false, file_size: size };
    expect(await gives('list_artifacts', { run_id, path: 'model' })).toEqual([listed]);
    const artifact_uri = `runs:/${run_id}/model/${FILE}`;
    expect(await gives('download', { artifact_uri })).toEqual({ [FILE]: sha256 });
  }
}

/** Registers two versions of a model, each put in place of the one before. */
export async function registers({ gives }: MlflowAt, run_id: string): Promise<void> {
  const name = NAME;
  await gives('create_registered_model', { name });
  await gives('set_registered_model_tag', { name, key: 'owner', value: 'ana' });
  expect(await gives('get_registered_model', { name })).toMatchObject({ name, tags: { owner: 'ana' } });
  for (const version of ['1', '2']) {
    const made = { name, version, run_id, status: 'READY' };
    const source = `runs:/${run_id}/model`;
    expect(await gives('create_model_version', { name, source, run_id })).toMatchObject(made);
    await gives('set_model_version_tag', { name, version, key: 'checked', value: `by ${version}` });
    const tags = { checked: `by ${version}` };
    expect(await gives('get_model_version', { name, version })).toMatchObject({ ...made, tags });
    const stage = 'Production';
    await gives('transition_model_version_stage', { name, version, stage, archive_existing_versions: true });
    expect(await gives('get_latest_versions', { name, stages: [stage] })).toMatchObject([{ version }]);
    await gives('set_registered_model_alias', { name, alias: 'live', version });
    expect(await gives('get_model_version_by_alias', { name, alias: 'live' })).toMatchObject({ version });
  }
  expect(await stagesOf(gives)).toEqual({ 1: 'Archived', 2: 'Production' });
}

/** Deletes what `registers` and `logsRun` made. */
export async function deletes({ gives, fails }: MlflowAt, run_id: string): Promise<void> {
  const name = NAME;
  await gives('delete_registered_model_alias', { name, alias: 'live' });
  expect(await fails('get_model_version_by_alias', { name, alias: 'live' })).toContain('live not found');
  await gives('delete_model_version', { name, version: '2' });
  expect(await stagesOf(gives)).toEqual({ 1: 'Archived' });
  const filter_string = `name = '${name}'`;
  expect(await gives('search_registered_models', { filter_string })).toMatchObject([{ name }]);
  await gives('delete_registered_model', { name });
  expect(await gives('search_registered_models', { filter_string })).toEqual([]);
  expect(await fails('get_registered_model', { name })).toContain('RESOURCE_DOES_NOT_EXIST');
  await gives('delete_run', { run_id });
  expect(await gives('get_run', { run_id })).toMatchObject({ info: { lifecycle_stage: 'deleted' } });
}

/** The most memory that a process has had so far, in bytes; of Linux only. */
export async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

async function stagesOf(gives: MlflowAt['gives']): Promise<Record<string, string>> {
  const found = await gives('search_model_versions', { filter_string: `name = '${NAME}'` });
  return Object.fromEntries(Versions.parse(found).map(one => [one.version, one.current_stage]));
}
