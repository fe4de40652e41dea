import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { Airflow, type AirflowVersion } from '../support/airflow.ts';
import { reloadsOf, warnings } from '../support/airflow-log.ts';
import { freePort } from '../support/free-port.ts';
import { IS_STRICT } from '../support/limits.ts';
import { reload } from '../support/reload.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { UNSTAGED_NAME } from './global-setup.ts';
import { servers } from './servers.ts';

const TOPIC = 'models:/topic-classification/Production';
const SENTIMENT = 'models:/sentiment-analysis/Production';
/** All of them wait for one another. */
const LIMIT_MS = 400_000;
/** What comes before the reload. */
const TRAINING = 'train|promote';
const OK = { exitCode: 0, state: 'success' };
/** On which even that runs which no Airflow does otherwise than the newest: on all of them in `npm run chaos -- airflow`. */
const WHOLE: readonly AirflowVersion[] = IS_STRICT ? ['3.3.2', '2.11.2'] : ['3.3.2'];

const [mlflow] = servers.filter(server => server.version === '3.17.2');
if (mlflow === undefined) throw new Error('The global setup started no MLflow 3.17.2.');
let sidecar: RunningSidecar;

beforeAll(async () => {
  sidecar = await startSidecar({ MLFLOW_TRACKING_URI: mlflow.url });
});

afterAll(async () => {
  await sidecar.stop();
});

describe.concurrent.each<AirflowVersion>(['3.3.2', '2.11.2'])(
  'the examples on Airflow %s',
  { timeout: LIMIT_MS },
  version => {
    let airflow: Airflow;

    beforeAll(async () => {
      airflow = await Airflow.start(version);
    }, LIMIT_MS);

    afterAll(() => airflow.stop());

    function run(dagId: string, options: { conf?: object; skip?: string; url?: string } = {}) {
      const { conf = {}, skip, url = sidecar.url } = options;
      const env = {
        AIRFLOW_CONN_MODEL_SIDECAR: url,
        SIDECAR_URL: url,
        MLFLOW_TRACKING_URI: mlflow?.url ?? '',
      };
      return airflow.run(dagId, { conf, env, ...(skip === undefined ? {} : { skip }) });
    }

    test('ml_model_training: the new version is loaded, and the report is in the log of the last task', async () => {
      const name = `trained-on-${version}`;
      const uri = `models:/${name}/Production`;
      const trained = await run('ml_model_training', { conf: { name, model_uris: [uri] } });
      const { outcome } = await reload(sidecar.url, uri);
      expect(trained).toMatchObject({
        ...OK,
        states: { reload_models: ['success'] },
        returned: { train: ['1'] },
      });
      expect(outcome).toMatchObject({ status: 'unchanged', version: '1' });
      const report = [
        `🔄 Reloading ${name}...`,
        `📥 Loading model from: ${uri}`,
        `   🔗 MLflow URI: ${mlflow.url}`,
        '✅ Model loaded successfully',
        '   📌 Version: 1',
        `   🔖 Run ID: ${outcome.run_id?.slice(0, 8)}...`,
        '   🎯 Stage: Production',
        `✅ ${name} reloaded successfully`,
        '✅ Model reload task complete',
      ];
      expect(report.filter(line => !trained.log.includes(line))).toEqual([]);
      expect(warnings(trained.log)).toEqual([]);
    });

    test('use_model: the task loads the model that the helper names, and predicts', async () => {
      expect(await run('use_model')).toMatchObject({ ...OK, returned: { classify: [['sport', 'economy']] } });
      const [call] = reloadsOf('classify', sidecar.logs());
      expect(call).toMatchObject({ dag_id: 'use_model', try_number: '1', model_uri: TOPIC });
    });

    test.each(['reload_async_sensor', 'reload_deferrable'])(
      '%s: the job ends, and its outcome comes to the last task',
      async dagId => {
        expect(await run(dagId)).toMatchObject({ ...OK, returned: { check: ['1'] } });
      },
    );

    test('ml_model_training: a sidecar that is down is one warning, and the run succeeds', async () => {
      const nobody = `http://127.0.0.1:${await freePort()}`;
      const { log, ...rest } = await run('ml_model_training', { skip: TRAINING, url: nobody });
      expect(rest).toMatchObject({ ...OK, states: { reload_models: ['success'] } });
      expect(warnings(log)).toEqual([expect.stringContaining('⚠️ The model sidecar did not answer: ')]);
    });

    if (!WHOLE.includes(version)) return;

    test('reload_sync: the report is in the log and the XCom', async () => {
      const { log, ...rest } = await run('reload_sync');
      expect(rest).toMatchObject(OK);
      const report = z.string().parse(rest.returned['reload_models']?.[0]);
      expect(report).toMatch(
        /^🔄 Reloading topic-classification\.\.\.\n.*\n✅ Model reload task complete\n$/s,
      );
      expect(log).toContain(report.trimEnd());
    });

    test('reload_mapped: each model has its task', async () => {
      const { log, ...rest } = await run('reload_mapped');
      expect(rest).toMatchObject({ ...OK, states: { load: ['success', 'success'] } });
      for (const uri of [TOPIC, SENTIMENT])
        expect(log).toContain(`${uri} is in ${(await reload(sidecar.url, uri)).outcome.path}`);
    });

    test('ml_model_training: a model that is missing is a warning, and the run succeeds', async () => {
      const conf = { model_uris: [TOPIC, `models:/${UNSTAGED_NAME}/Production`] };
      const { log, ...rest } = await run('ml_model_training', { conf, skip: TRAINING });
      expect(rest).toMatchObject({ ...OK, states: { reload_models: ['success'] } });
      expect(warnings(log)).toEqual([expect.stringContaining(`⚠️ Failed to reload ${UNSTAGED_NAME}: `)]);
      expect(log).toContain('✅ topic-classification reloaded successfully');
      expect(log).toContain('   This may be expected if no model is in Production stage yet.');
    });

    test('ml_model_training: an MLflow that is down is one warning a model, and the run succeeds', async context => {
      const lonely = await startSidecar({ MLFLOW_TRACKING_URI: `http://127.0.0.1:${await freePort()}` });
      context.onTestFinished(async () => void (await lonely.stop()));
      const { log, ...rest } = await run('ml_model_training', { skip: TRAINING, url: lonely.url });
      expect(rest).toMatchObject({ ...OK, states: { reload_models: ['success'] } });
      expect(warnings(log)).toEqual([
        expect.stringContaining('⚠️ Failed to reload topic-classification: '),
        expect.stringContaining('⚠️ Failed to reload sentiment-analysis: '),
      ]);
    });
  },
);
