import { type Clock, systemClock } from '../../src/domain/clock.ts';
import { EventBus } from '../../src/domain/events.ts';
import { manifestOf } from '../../src/domain/manifest.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { Store } from '../../src/store/store.ts';

/**
 * A process of its own on a cache directory:
 * `open` opens and closes the store over and over, `publish` publishes version after version, `once` one version, and
 * `hold` opens it and waits. Says `ready` when it begins. With `maxBytes` the cache is limited; what
 * was superseded can go soon where its clock leaps with every version.
 */
const [cacheDir = '', work = '', umask = '22', from = '1', maxBytes = '', leapS = '0'] =
  process.argv.slice(2);
process.umask(Number.parseInt(umask, 8));
const OWN = scopeOf('http://mlflow:5000', null, null);

let aheadMs = 0;
const clock: Clock = { now: () => Date.now() + aheadMs, monotonic: () => systemClock.monotonic() };
const limits = { maxBytes: Number(maxBytes), maxStaleMs: 1e12, models: new Set<string>() };

async function open(): Promise<Store> {
  return await Store.open(cacheDir, OWN, clock, new EventBus(), maxBytes === '' ? undefined : limits);
}

async function* bodyOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

async function publish(store: Store, version: number): Promise<void> {
  const files = { MLmodel: `version: ${version}\n`, 'data/model.pkl': 'shared' };
  aheadMs += Number(leapS) * 1_000;
  const room = await store.reserve(20);
  const intake = await store.intake();
  const taken = Object.entries(files).map(async ([path, text]) => ({
    path,
    ...(await intake.take(bodyOf(text), text.length)),
  }));
  const manifest = manifestOf(await Promise.all(taken));
  const source = `mlflow-artifacts:/0/models/m-${version}/artifacts`;
  const { snapshot } = await store.commit(
    OWN,
    { root: [source], version: String(version) },
    manifest,
    intake,
  );
  await intake.close();
  const named = {
    name: 'churn',
    version: String(version),
    stage: null,
    aliases: [],
    runId: null,
    modelId: null,
  };
  const published = { version: { ...named, createdMs: version, source }, snapshot, digest: manifest.digest };
  await store.refs.publish(
    OWN,
    parseModelUri('models:/churn/Production'),
    { ...published, files: manifest.files.length, bytes: manifest.bytes },
    version,
    Date.now(),
  );
  room.release();
}

process.stdout.write('ready\n');
if (work === 'open') {
  for (;;) await (await open()).close();
}
const store = await open();
process.stdout.write('open\n');
if (work === 'once') {
  await publish(store, Number(from));
  await store.close();
}
if (work === 'publish') {
  for (let version = Number(from); ; version++) {
    await publish(store, version);
    process.stdout.write(`${version}\n`);
  }
}
if (work === 'hold') setInterval(() => undefined, 1_000);
