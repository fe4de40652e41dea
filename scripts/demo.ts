// The story of the sidecar, told with a real MLflow server; every step is checked.
// A failed expectation ends it with exit code 1, and whichever way it ends it leaves nothing behind.
import { exitOnSignals } from '../test/support/at-exit.ts';
import {
  loadOffline,
  type MlflowServer,
  startMlflow,
  train,
  whileFrozen,
} from '../test/support/real-mlflow.ts';
import { reload, reloadReport, reloadUntil } from '../test/support/reload.ts';
import { type RunningSidecar, startSidecar } from '../test/support/sidecar.ts';
import { expectPart, expectSame, expectWithin, heading, say, seconds, timed, Unmet } from './demo/tell.ts';

const MLFLOW = '3.17.2';
const MODELS = ['topic-classification', 'sentiment-analysis'];
const UNSTAGED = 'no-stage-model';
const URIS = MODELS.map(inProduction);
const TOPIC = inProduction('topic-classification');

/** `refresh_wait_s` by default, and what may come on top of any deadline. */
const STALE_LIMIT_MS = 2_000 + 250;
const NEXT_STALE_LIMIT_MS = 50;
/** A registry that missed its wait is asked in the background for 10 s; then MLflow has to answer. */
const RECOVERY_LIMIT_MS = 12_000;

function inProduction(name: string): string {
  return `models:/${name}/Production`;
}

async function prepare(): Promise<MlflowServer> {
  heading('A real MLflow server');
  return timed(`Starting MLflow ${MLFLOW} (10 to 35 s)`, () => startMlflow(MLFLOW));
}

async function trains(mlflow: MlflowServer): Promise<void> {
  heading('A training registers two models and puts them in Production');
  await timed(`Training ${MODELS.join(' and ')} on ${mlflow.url}`, () =>
    train(MLFLOW, mlflow.url, MODELS, [UNSTAGED]),
  );
}

async function start(mlflow: MlflowServer): Promise<RunningSidecar> {
  heading('The sidecar starts next to it, with an empty cache');
  const env = { MLFLOW_TRACKING_URI: mlflow.url, SIDECAR_MODELS: URIS.join(',') };
  const sidecar = await timed('mlflow-sidecar serve', () => startSidecar(env));
  say(`It listens on ${sidecar.url}.`);
  return sidecar;
}

async function bothLoad(sidecar: RunningSidecar): Promise<void> {
  heading('The task after the training reloads both models: this is what its log shows');
  for (const uri of URIS) {
    const { status, text, ms } = await reloadReport(sidecar.url, uri);
    console.log(`\n${text.trimEnd()}\n`);
    expectSame('HTTP status', status, 200);
    expectPart('The report', text, '✅ Model loaded successfully');
    say(`✔ answered in ${seconds(ms)}`);
  }
}

async function pythonLoads(sidecar: RunningSidecar): Promise<void> {
  heading("Python loads the sidecar's directories with the network off, and predicts");
  const replies = await Promise.all(URIS.map(uri => reload(sidecar.url, uri)));
  const paths = replies.map(({ outcome }) => outcome.path ?? '');
  for (const path of paths) say(`mlflow.pyfunc.load_model("${path}")`);
  const loaded = await loadOffline(MLFLOW, paths);
  expectSame('"a late goal won the match"', loaded[0]?.predictions[0], 'sport');
  expectSame('"a terrible waste of time"', loaded[1]?.predictions[1], 'negative');
}

async function mlflowFreezes(sidecar: RunningSidecar): Promise<void> {
  heading(
    'MLflow freezes: it accepts connections and answers nothing (unaided, load_model hangs for 726 to 1,208 s)',
  );
  const first = await reload(sidecar.url, TOPIC);
  expectSame('status', first.outcome.status, 'stale');
  expectSame('version', first.outcome.version, '1');
  expectWithin('the answer', first.ms, STALE_LIMIT_MS);
  say(`${first.outcome.warning?.code}: ${first.outcome.warning?.message}`);
  const second = await reload(sidecar.url, TOPIC);
  expectSame('status of the next reload', second.outcome.status, 'stale');
  expectWithin('its answer, since slow is remembered', second.ms, NEXT_STALE_LIMIT_MS);
}

async function mlflowWakes(sidecar: RunningSidecar): Promise<void> {
  heading('MLflow wakes, and the sidecar recovers without being told');
  const ms = await reloadUntil(sidecar.url, TOPIC, 'unchanged', RECOVERY_LIMIT_MS);
  expectWithin('confirmed by MLflow again after', ms, RECOVERY_LIMIT_MS);
}

async function nothingInProduction(sidecar: RunningSidecar): Promise<void> {
  heading('A model with no version in Production gives a clear word, and no failed task');
  const uri = inProduction(UNSTAGED);
  const { status, outcome } = await reload(sidecar.url, uri);
  const { text } = await reloadReport(sidecar.url, uri);
  console.log(`\n${text.trimEnd()}\n`);
  expectSame('HTTP status', status, 200);
  expectSame('status', outcome.status, 'missing');
  expectPart(
    'The hint',
    outcome.warning?.hint ?? '',
    'This may be expected if no model is in Production stage yet.',
  );
  expectPart('The report', text, 'This may be expected if no model is in Production stage yet.');
}

async function end(sidecar: RunningSidecar, mlflow: MlflowServer): Promise<void> {
  heading('The end');
  expectSame("the sidecar's exit code after SIGTERM", await sidecar.stop(), 0);
  mlflow.stop();
}

async function story(): Promise<void> {
  const mlflow = await prepare();
  const healthyAt = performance.now();
  await trains(mlflow);
  const sidecar = await start(mlflow);
  await bothLoad(sidecar);
  await pythonLoads(sidecar);
  await whileFrozen(mlflow.pid, () => mlflowFreezes(sidecar));
  await mlflowWakes(sidecar);
  await nothingInProduction(sidecar);
  await end(sidecar, mlflow);
  say(
    `Told in ${seconds(performance.now() - healthyAt)} once MLflow was healthy. Nothing is left running.\n`,
  );
}

exitOnSignals();
try {
  await story();
  console.log('✅ Model reload task complete');
} catch (error) {
  console.error(error instanceof Unmet ? `\n✖ ${error.message}` : error);
  process.exit(1);
}
