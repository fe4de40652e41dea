import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { errnoOf } from '../../src/domain/errors.ts';
import type { Outcome } from '../../src/domain/outcome.ts';
import { reload, until } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { filesBelow, readSnapshot, type Shape } from './content.ts';
import { addVersion, makeCache, NAME, REF, refPath, removeCache, startReader } from './harness.ts';

const URI = `models:/${NAME}/${REF}`;
const SHAPE: Shape = { files: 4, bytes: 512 * 1024 };
const DISK_BYTES = 32 * 1024 * 1024;
/** util-linux' programs for namespaces. */
const [ENTER_NEW, ENTER] = ['unshare', 'nsenter'] as const;
const ADVICE = `Where "unshare" is missing, install util-linux. Where it is not permitted, run the tests as root, or let users have namespaces: "sysctl -w kernel.unprivileged_userns_clone=1" (Debian), "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" (Ubuntu), "sysctl -w user.max_user_namespaces=10000" (others). In a container: "--security-opt seccomp=unconfined --cap-add SYS_ADMIN".`;
const CHUNK = Buffer.alloc(64 * 1024);
/** Long enough for the directory to be tried once more. */
const RECOVERY_LOOK_MS = 6_000;
/** The cache directory is tried again every 5 s. */
const RECOVERY_MS = 30_000;

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

/** A file system in memory that only its own mount namespace sees. */
class SmallDisk {
  readonly dir: string;
  readonly #pid: number;

  private constructor(dir: string, pid: number) {
    this.dir = dir;
    this.#pid = pid;
  }

  /** No privilege is needed where the kernel lets users have namespaces of their own. */
  static async mount(dir: string): Promise<SmallDisk> {
    const script = `mount -t tmpfs -o size=${DISK_BYTES} tmpfs "$0" && echo mounted && exec cat`;
    const holder = spawn(ENTER_NEW, ['-rm', 'sh', '-c', script, dir], { stdio: 'pipe' });
    onTestFinished(() => void holder.kill('SIGKILL'));
    const said = await Promise.race([
      once(holder.stdout, 'data'),
      once(holder.stderr, 'data'),
      once(holder, 'error'),
    ]);
    if (String(said[0]) !== 'mounted\n') {
      throw new Error(
        `This test mounts a small disk by "unshare -rm" and "mount -t tmpfs", which does not work here: ${String(said[0]).trim()}\n${ADVICE}`,
      );
    }
    return new SmallDisk(dir, holder.pid ?? 0);
  }

  /** What a program is started by, so that it sees the disk. */
  get via(): readonly string[] {
    return [ENTER, '--target', String(this.#pid), '--user', '--mount', '--preserve-credentials'];
  }

  /** Where this process sees what the others see at `path`. */
  seen(path: string): string {
    return join('/proc', String(this.#pid), 'root', path);
  }

  /** As a kernel does with a disk that fails. */
  async remount(how: 'ro' | 'rw'): Promise<void> {
    const [command, ...args] = this.via;
    await promisify(execFile)(command ?? '', [...args, 'mount', '-o', `remount,${how}`, this.dir]);
  }

  /** Somebody else's file takes all that is left. */
  async fill(): Promise<void> {
    const file = await open(this.seen(join(this.dir, 'filler')), 'a');
    try {
      for (;;) await file.write(CHUNK);
    } catch (error) {
      if (errnoOf(error) !== 'ENOSPC') throw error;
    } finally {
      await file.close();
    }
  }

  async free(): Promise<void> {
    await rm(this.seen(join(this.dir, 'filler')));
  }
}

async function start(disk: SmallDisk): Promise<RunningSidecar> {
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_DIR: disk.dir }, disk);
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

async function versionGiven(disk: SmallDisk, { path }: Outcome): Promise<string> {
  return (await readSnapshot(disk.seen(path ?? '/nowhere'))).version;
}

const Ready = z.object({ status: z.union([z.string(), z.number()]), detail: z.string().optional() });

async function readiness(sidecar: RunningSidecar) {
  const response = await fetch(`${sidecar.url}/readyz`);
  return { http: response.status, ...Ready.parse(await response.json()) };
}

const Status = z.object({ cache: z.object({ usable: z.boolean(), problem: z.string().nullable() }) });

/** What the status, the metrics and the log say of the cache. */
async function told(sidecar: RunningSidecar) {
  const status = Status.parse(await (await fetch(`${sidecar.url}/v1/status`)).json());
  const metrics = await (await fetch(`${sidecar.url}/metrics`)).text();
  return {
    ...status.cache,
    metric: /^mlflow_sidecar_cache_usable (\d)$/m.exec(metrics)?.[1],
    lines: sidecar
      .logs()
      .split('\n')
      .filter(line => line.includes('The cache does not work')).length,
  };
}

/** The old version, whole, and why. */
async function expectStale(disk: SmallDisk, outcome: Outcome, version: string): Promise<void> {
  expect(outcome).toMatchObject({ status: 'stale', version, warning: { code: 'disk_full' } });
  expect(await versionGiven(disk, outcome)).toBe(version);
}

async function expectLoaded(disk: SmallDisk, outcome: Outcome, version: string): Promise<void> {
  expect(outcome).toMatchObject({ status: 'loaded', version, warning: null });
  expect(await versionGiven(disk, outcome)).toBe(version);
}

async function litterOf(disk: SmallDisk): Promise<readonly string[]> {
  const paths = await filesBelow(disk.seen(join(disk.dir, 'v1', 'tmp')));
  return paths.filter(path => !path.endsWith('/owner.json'));
}

test('a small disk that somebody fills, before a download, in the middle of one, and over a restart: the last version is given, and the first reload with space succeeds', async () => {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const disk = await SmallDisk.mount(cacheDir);
  const first = addVersion(upstream, SHAPE);
  let sidecar = await start(disk);
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, first);
  const reader = await startReader(refPath(disk.dir), 1, disk.via);

  const second = addVersion(upstream, SHAPE);
  await disk.fill();
  const asked = upstream.counts('file');
  for (let n = 0; n < 3; n++) await expectStale(disk, (await reload(sidecar.url, URI)).outcome, first);
  expect(upstream.counts('file')).toEqual(asked);
  expect(await litterOf(disk)).toEqual([]);
  await disk.free();
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, second);

  const third = addVersion(upstream, SHAPE);
  const isLast = { when: ({ path }: { readonly path: string }) => path.endsWith('/file-2.bin') };
  await upstream.setFault('file', { kind: 'delay', ms: 1_000 }, isLast);
  const cut = reload(sidecar.url, URI);
  await until(5_000, async () => ((await litterOf(disk)).length >= SHAPE.files - 1 ? true : null));
  await disk.fill();
  await expectStale(disk, (await cut).outcome, second);
  await upstream.clearFaults();
  expect(await litterOf(disk)).toEqual([]);
  await disk.free();
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, third);

  const fourth = addVersion(upstream, SHAPE);
  await sidecar.stop();
  await disk.fill();
  sidecar = await start(disk);
  expect(await readiness(sidecar)).toMatchObject({ http: 200, status: 'degraded' });
  await expectStale(disk, (await reload(sidecar.url, URI)).outcome, third);
  await disk.free();
  await until(RECOVERY_MS, async () => ((await readiness(sidecar)).status === 'ready' ? true : null));
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, fourth);

  await delay(100);
  const { rounds, versions, faults } = await reader.stop();
  await account('a disk that fills', { fillings: 3, reads: rounds, torn: faults.length });
  expect(faults).toEqual([]);
  expect(versions).toEqual([first, second, third, fourth]);
}, 60_000);

test('a cache that becomes read-only while it is used, and is so at a start: what is cached is given, it is said everywhere, and it comes back by itself', async () => {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const disk = await SmallDisk.mount(cacheDir);
  const first = addVersion(upstream, SHAPE);
  let sidecar = await start(disk);
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, first);
  expect(await told(sidecar)).toEqual({ usable: true, problem: null, metric: '1', lines: 0 });

  await disk.remount('ro');
  const second = addVersion(upstream, SHAPE);
  // Also before anybody has noticed.
  await expectStale(disk, (await reload(sidecar.url, URI)).outcome, first);
  await until(RECOVERY_MS, async () => ((await readiness(sidecar)).status === 'degraded' ? true : null));
  for (let n = 0; n < 3; n++) await expectStale(disk, (await reload(sidecar.url, URI)).outcome, first);
  expect(await readiness(sidecar)).toMatchObject({ http: 200, detail: expect.stringContaining('read-only') });
  const problem = expect.stringContaining('read-only');
  await delay(RECOVERY_LOOK_MS);
  const { lines, ...said } = await told(sidecar);
  expect(said).toEqual({ usable: false, problem, metric: '0' });
  expect(lines).toBeLessThanOrEqual(2);

  await sidecar.stop();
  sidecar = await start(disk);
  expect(await readiness(sidecar)).toMatchObject({ http: 200, status: 'degraded' });
  await expectStale(disk, (await reload(sidecar.url, URI)).outcome, first);
  const missing = await reload(sidecar.url, 'models:/other/1');
  expect(missing.outcome.status).not.toBe('loaded');

  await disk.remount('rw');
  await until(RECOVERY_MS, async () => ((await readiness(sidecar)).status === 'ready' ? true : null));
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, second);
  expect(await told(sidecar)).toMatchObject({ usable: true, problem: null, metric: '1' });

  await disk.remount('ro');
  await until(RECOVERY_MS, async () => ((await readiness(sidecar)).status === 'degraded' ? true : null));
  await disk.remount('rw');
  await until(RECOVERY_MS, async () => ((await readiness(sidecar)).status === 'ready' ? true : null));
  const third = addVersion(upstream, SHAPE);
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, third);
}, 180_000);

test('a read-only cache with nothing in it is not ready', async () => {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const disk = await SmallDisk.mount(cacheDir);
  const empty = await start(disk);
  await empty.stop();
  await disk.remount('ro');
  expect(await readiness(await start(disk))).toMatchObject({ http: 503 });
}, 60_000);
