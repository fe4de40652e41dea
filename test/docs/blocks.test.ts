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
    ['a method that does not fit', 'sh', 'curl localhost:5080/v1/reload', /answered 405/],
    ['a variable that nobody reads', 'sh', 'export SIDECAR_PROT=1', /nobody reads SIDECAR_PROT/],
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
      'an option that the file does not take',
      'yaml',
      'mlflow_tracking_uri: http://mlflow:5000\nprot: 1',
      /prot in .*is not an option/,
    ],
    ['YAML that is neither a configuration nor alerts', 'yaml', 'a: 1', /expected array/],
    ['an answer that is none', 'json', '{"job_id": 1}', /job_id: /],
    ['a unit that does not start', 'ini', '[Service]\nExecStart=/x serve', /MLFLOW_TRACKING_URI/],
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
