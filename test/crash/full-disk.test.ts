import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
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
/** The cache directory is tried again every 5 s. */
const RECOVERY_MS = 7_000;

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
  await expectStale(disk, (await reload(sidecar.url, URI)).outcome, third);
  await disk.free();
  await until(RECOVERY_MS, async () => ((await fetch(`${sidecar.url}/readyz`)).ok ? true : null));
  await expectLoaded(disk, (await reload(sidecar.url, URI)).outcome, fourth);

  await delay(100);
  const { rounds, versions, faults } = await reader.stop();
  await account('a disk that fills', { fillings: 3, reads: rounds, torn: faults.length });
  expect(faults).toEqual([]);
  expect(versions).toEqual([first, second, third, fourth]);
}, 60_000);
