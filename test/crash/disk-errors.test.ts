import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { run } from '../cli/support.ts';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { readWhole, type Shape } from './content.ts';
import { addVersion, makeCache, REF, removeCache } from './harness.ts';
import { SIZES } from './sizes.ts';
import { type Failure, Trouble } from './trouble.ts';

const SHAPE: Shape = { files: 2, bytes: 1024 };
const URI = `models:/warm/${REF}`;
const ERRORS: readonly Failure[] = ['ESTALE', 'EIO', 'EACCES', 'ETIMEDOUT', 'EROFS', 'ENOTSUP', 'hang'];
/** As the preload names them. */
const KINDS: readonly string[] = [
  ...[
    'stat',
    'lstat',
    'readlink',
    'readFile',
    'readdir',
    'open',
    'read',
    'access',
    'statfs',
    'opendir',
    'realpath',
  ],
  ...['mkdir', 'chmod', 'create', 'write', 'writeFile', 'sync', 'close', 'utimes', 'rm', 'unlink'],
  ...['rename', 'link', 'symlink', 'copyFile'],
];
/** Each waits for the directory to be tried again. */
const AT_START: readonly Failure[] = SIZES.restartEach ? ERRORS : ['EIO', 'hang'];
const CALL = { deadline_s: 3, refresh_wait_s: 0.3 };
/** A directory that did not work at the start is tried again every 5 s. */
const COMES_BACK_MS = 20_000;
const LIMIT_MS = 900_000;

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

class Stand {
  readonly cacheDir: string;
  readonly trouble: Trouble;
  readonly wanted: string;
  sidecar: RunningSidecar;
  readonly wrong: string[] = [];

  private constructor(cacheDir: string, trouble: Trouble, wanted: string, sidecar: RunningSidecar) {
    this.cacheDir = cacheDir;
    this.trouble = trouble;
    this.wanted = wanted;
    this.sidecar = sidecar;
  }

  /** One model is cached. */
  static async make(): Promise<Stand> {
    const cacheDir = await makeCache();
    onTestFinished(() => removeCache(cacheDir));
    const trouble = await Trouble.make();
    const wanted = addVersion(upstream, SHAPE, 'warm');
    const sidecar = await start(cacheDir, trouble);
    const stand = new Stand(cacheDir, trouble, wanted, sidecar);
    onTestFinished(async () => void (await stand.sidecar.stop()));
    expect((await reload(sidecar.url, URI)).outcome).toMatchObject({ status: 'loaded', version: wanted });
    return stand;
  }

  async restart(): Promise<void> {
    await this.sidecar.stop();
    this.sidecar = await start(this.cacheDir, this.trouble);
  }

  /** The last good version, whole. */
  async given(): Promise<string | null> {
    const { outcome } = await reload(this.sidecar.url, URI, CALL);
    if (outcome.version !== this.wanted || outcome.path === null)
      return `${outcome.status} ${outcome.version} ${outcome.warning?.code}: ${outcome.warning?.message}`;
    const content = await readWhole(outcome.path);
    return content === this.wanted ? null : `holds ${content}`;
  }

  async look(what: string): Promise<void> {
    const found = await this.given();
    if (found !== null) this.wrong.push(`${what}: ${found}`);
  }
}

async function start(cacheDir: string, trouble: Trouble): Promise<RunningSidecar> {
  return await startSidecar({ ...upstream.env, ...trouble.env, SIDECAR_CACHE_DIR: cacheDir });
}

test.each(ERRORS)(
  '%s at every kind of file operation, with MLflow well and down, then a restart: the last good version is given each time',
  async act => {
    const stand = await Stand.make();
    const { trouble } = stand;
    let looks = 0;
    for (const kind of KINDS) {
      for (const isDown of [false, true]) {
        if (isDown) await upstream.setFault('registry', { kind: 'refused' });
        const when = `${act} at ${kind}, MLflow ${isDown ? 'down' : 'well'}`;
        await trouble.plan({ match: new RegExp(`^${kind} `), nth: null, act });
        await stand.look(when);
        await trouble.clear();
        await stand.look(`${when}, then well`);
        looks += 2;
      }
      if (SIZES.restartEach) {
        await stand.restart();
        await stand.look(`${act} at ${kind}, restarted`);
      }
      await upstream.clearFaults();
    }
    await upstream.setFault('registry', { kind: 'refused' });
    onTestFinished(() => upstream.clearFaults());
    await stand.restart();
    await stand.look(`${act}, restarted`);
    await account('kinds of file operations that failed', { looks, wrong: stand.wrong.length });
    expect(stand.wrong).toEqual([]);
  },
  LIMIT_MS,
);

test.each(AT_START)(
  '%s at a start, MLflow down: once the disk is well again, the last good version is given',
  async act => {
    const stand = await Stand.make();
    await upstream.setFault('registry', { kind: 'refused' });
    onTestFinished(() => upstream.clearFaults());
    const kinds = SIZES.restartEach ? KINDS : [KINDS.join('|')];
    for (const kind of kinds) {
      await stand.sidecar.stop();
      await stand.trouble.plan({ match: new RegExp(`^(${kind}) `), nth: null, act });
      stand.sidecar = await start(stand.cacheDir, stand.trouble);
      await reload(stand.sidecar.url, URI, CALL);
      await stand.trouble.clear();
      const until = performance.now() + COMES_BACK_MS;
      let found = await stand.given();
      while (found !== null && performance.now() < until) {
        await new Promise(resolve => setTimeout(resolve, 200));
        found = await stand.given();
      }
      if (found !== null) stand.wrong.push(`${act} at ${kind}: ${found}`);
    }
    await stand.restart();
    await stand.look(`${act}, restarted`);
    expect(stand.wrong).toEqual([]);
  },
  LIMIT_MS,
);

test('a file that the disk does not give while the cache is verified is told, and its version stays', async () => {
  const stand = await Stand.make();
  const { trouble, cacheDir } = stand;
  await stand.sidecar.stop();
  await trouble.plan({ match: /^open (snapshots|blobs)/, nth: null, act: 'EIO' });
  const verified = await run(['verify', '--cache-dir', cacheDir], {
    ...trouble.env,
    SIDECAR_CACHE_DIR: cacheDir,
  });
  await trouble.clear();
  expect(verified.stdout).toContain('cannot be read (EIO)');
  expect(verified.stdout).toContain('It stays, since the disk only fails to give it.');
  expect(verified.stdout).not.toContain('It was taken away');
  expect(verified.code).toBe(1);
  await upstream.setFault('registry', { kind: 'refused' });
  onTestFinished(() => upstream.clearFaults());
  await stand.restart();
  await stand.look('verified');
  expect(stand.wrong).toEqual([]);
});
