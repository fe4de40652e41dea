import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkBlock } from './blocks.ts';
import { documents, readDocument } from './markdown.ts';
import { openStand, type Stand } from './stand.ts';

/** What is below `helm/` stands beside the files that it is about, and is checked with them, in `test/helm`. */
const checked = (await documents()).filter(({ path }) => !path.startsWith('helm/'));

let stand: Stand;
beforeAll(async () => {
  stand = await openStand();
});
afterAll(() => stand.close());

describe('every block of a document is right: its commands are run, or checked by what is known of their program', () => {
  test.each(checked.filter(({ blocks }) => blocks.length > 0))('$path', async document => {
    for (const block of document.blocks) {
      expect(await checkBlock(block, { stand, document }), `${document.path}:${block.line}`).toEqual([]);
    }
  });
});

test('there are blocks of every kind, in every document for users', () => {
  const languages = checked.flatMap(({ blocks }) => blocks.map(({ language }) => language));
  expect([...new Set(languages)].toSorted()).toEqual(['ini', 'json', 'python', 'sh', 'text', 'tree', 'yaml']);
  expect(languages.length).toBeGreaterThan(30);
});

const alert = (expression: string) => `- alert: X\n  expr: '${expression}'`;
const CONTAINER = `export SIDECAR_TOKEN=$(openssl rand -hex 32)
docker run --name models --env SIDECAR_HOST=0.0.0.0 --env SIDECAR_TOKEN --env 'SIDECAR_ALLOW=models:/*' \\
  --env SIDECAR_ALLOWED_HOSTS=models --env MLFLOW_TRACKING_URI=http://mlflow:5000 mlflow-sidecar:0.1.0`;

test('a call goes to what the blocks of its section have started, with what they have set', async () => {
  const call = 'curl -H "Authorization: Bearer $SIDECAR_TOKEN" models:5080/v1/models';
  const text = `# A\n\`\`\`sh\n${CONTAINER}\n\`\`\`\n\`\`\`sh\n${call}\n\`\`\`\n## B\n\`\`\`sh\n${call}\n\`\`\`\n`;
  const document = readDocument('README.md', text);
  const faults = document.blocks.map(block => checkBlock(block, { stand, document }));
  expect(await Promise.all(faults)).toEqual([[], [], [expect.stringContaining('names SIDECAR_TOKEN')]]);
});

describe('the check refuses', () => {
  const cases: readonly [string, string, string, RegExp][] = [
    ['a kind that it does not know', 'ruby', 'x = 1', /"ruby" is not known/],
    ['a block without a kind', '', 'x = 1', /"" is not known/],
    ['a program that it does not know', 'sh', 'ls -l', /ls is not known here/],
    ['what it cannot read', 'sh', 'a < b', /not understood/],
    ['a flag of ours that is none', 'sh', 'mlflow-sidecar serve --chek', /unknown option '--chek'/],
    ['a command of ours that is none', 'sh', 'mlflow-sidecar serv', /unknown command 'serv'/],
    [
      'a model that cannot be loaded',
      'sh',
      'mlflow-sidecar fetch models:/nobody/1 --to /x',
      /model_not_found|version_not_found/,
    ],
    ['a route that there is not', 'sh', 'curl localhost:5080/v1/modles', /answered 404/],
    ['a field that there is not', 'sh', 'curl localhost:5080/v1/reload -d model=x', /unknown field/],
    [
      'a model that is not there',
      'sh',
      "curl -X POST 'localhost:5080/v1/models/topic-classification/reload?alias=champio'",
      /gives no model: .*champio/,
    ],
    [
      'one of several that is not there',
      'sh',
      'curl localhost:5080/v1/reload -d model_uris=models:/topic-classification/1,models:/nobody/1',
      /gives no model: .*nobody/,
    ],
    [
      'a model that is not there, in a report',
      'sh',
      "curl -H 'Accept: text/plain' localhost:5080/v1/reload -d model_uri=models:/nobody/1",
      /gives no model: .*nobody/s,
    ],
    [
      'a model that is not there, of our own command',
      'sh',
      'mlflow-sidecar reload models:/nobody/1',
      /nobody/,
    ],
    [
      'a call without the token of the container',
      'sh',
      `${CONTAINER}\ncurl localhost:5080/v1/models`,
      /answered 401/,
    ],
    [
      'a token that no shell puts in',
      'sh',
      `${CONTAINER}\ncurl -H 'Authorization: Bearer $SIDECAR_TOKEN' localhost:5080/v1/models`,
      /between single quotes/,
    ],
    ['a variable that is not set', 'sh', 'curl "localhost:5080/v1/models?x=$NOBODY"', /names NOBODY/],
    [
      'a name that the container does not go by',
      'sh',
      `${CONTAINER}\ncurl -H "Authorization: Bearer $SIDECAR_TOKEN" sidecar:5080/v1/models`,
      /asks sidecar:5080/,
    ],
    [
      'a container’s name that it is not told',
      'sh',
      `${CONTAINER.replace('SIDECAR_ALLOWED_HOSTS=models', 'SIDECAR_ALLOWED_HOSTS=other')}
curl -H "Authorization: Bearer $SIDECAR_TOKEN" models:5080/v1/models`,
      /answered 403.*forbidden_host/,
    ],
    [
      'a chart that would answer on this machine',
      'sh',
      `helm install x helm/mlflow-sidecar --set mlflow.trackingUri=http://mlflow:5000 --set 'models[0]=models:/a/1'
curl localhost:5080/v1/models`,
      /installed is elsewhere/,
    ],
    ['a method that does not fit', 'sh', 'curl localhost:5080/v1/reload', /answered 405/],
    ['a variable that nobody reads', 'sh', 'export SIDECAR_PROT=1', /nobody reads SIDECAR_PROT/],
    [
      'a value that is none',
      'sh',
      'export SIDECAR_PREWARM="*/5 * * *"',
      /SIDECAR_PREWARM=\*\/5 \* \* \* is no schedule/,
    ],
    ['a script that there is not', 'sh', 'npm run chaso', /no script chaso/],
    ['a run that there is not', 'sh', 'npm run chaos -- nothing', /has no nothing/],
    [
      'a container that does not start',
      'sh',
      'docker run --env SIDECAR_HOST=0.0.0.0 mlflow-sidecar:0.1.0',
      /SIDECAR_TOKEN/,
    ],
    [
      'a chart’s key that there is not',
      'sh',
      'helm install x helm/mlflow-sidecar --set mlflow.trackingUri=http://mlflow:5000 --set mlflow.uri=http://mlflow',
      /additional propert\w+ '?uri/i,
    ],
    ['Python that does not compile', 'python', 'def', /SyntaxError/],
    ['a name that the helper has not', 'python', 'from mlflow_sidecar import modle_path', /AttributeError/],
    [
      'an argument that the helper does not take',
      'python',
      'x = model_path("models:/a/1", deadline=3)',
      /model_path\(\): .*deadline/,
    ],
    [
      'a call of the helper without its model',
      'python',
      'mlflow_sidecar.watch(print)',
      /watch\(\): .*callback/,
    ],
    [
      'an endpoint that there is not',
      'python',
      'HttpOperator(endpoint="v1/relaod")',
      /\/v1\/relaod is no route/,
    ],
    [
      'an endpoint of another method',
      'python',
      'HttpSensor(endpoint="v1/reload")',
      /GET \/v1\/reload takes POST/,
    ],
    [
      'an alert on a metric that there is not',
      'yaml',
      alert('mlflow_sidecar_up == 0'),
      /mlflow_sidecar_up is no metric/,
    ],
    [
      'an alert by a label that the metric has not',
      'yaml',
      alert('sum by (host) (mlflow_sidecar_reloads_total{state="open"}) > 0'),
      /no metric here has host.*mlflow_sidecar_reloads_total has no state/s,
    ],
    [
      'an alert on a value that never comes',
      'yaml',
      alert('mlflow_sidecar_reloads_total{status=~"failed|mising",code="circuit_opened"} > 0'),
      /status is never mising.*code is never circuit_opened/s,
    ],
    [
      'an alert that is no expression',
      'yaml',
      alert('sum(increase(mlflow_sidecar_runs_total[15m]) > 0'),
      /lacks a \)/,
    ],
    [
      'an alert that closes what is not open',
      'yaml',
      alert('increase(mlflow_sidecar_runs_total[15m)] > 0'),
      /has a \) too many/,
    ],
    [
      'an option that the file does not take',
      'yaml',
      'mlflow_tracking_uri: http://mlflow:5000\nprot: 1',
      /prot in .*is not an option/,
    ],
    ['YAML that is neither a configuration nor alerts', 'yaml', 'a: 1', /expected array/],
    ['an answer that is none', 'json', '{"job_id": 1}', /job_id: /],
    ['a unit that does not start', 'ini', '[Service]\nExecStart=/x serve', /MLFLOW_TRACKING_URI/],
    [
      'a setting that systemd does not know',
      'ini',
      '[Service]\nExecStrat=/x serve',
      /ExecStrat.*is no setting of \[Service\]/,
    ],
    [
      'a setting in another section',
      'ini',
      '[Unit]\nRestart=always',
      /Restart=always: is no setting of \[Unit\]/,
    ],
    [
      'a tree that is another',
      'tree',
      'src/\n  clii/',
      /src\/clii\/ is not there\n.*src\/cli\/ is not named/s,
    ],
    ['another report', 'text', '✅ All is well', /is not as the sidecar’s report is/],
  ];
  test.each(cases)('%s', async (_case, language, text, fault) => {
    const document = readDocument('README.md', '');
    expect((await checkBlock({ language, text, line: 1 }, { stand, document })).join('\n')).toMatch(fault);
  });
});
