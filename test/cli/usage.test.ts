import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { flagOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { directory, run } from './support.ts';

const MLFLOW = { MLFLOW_TRACKING_URI: 'http://127.0.0.1:9' };

describe('a wrong command line ends with 2 and says what is meant', () => {
  const cases: readonly [string, readonly string[], RegExp][] = [
    ['no command', [], /Usage: mlflow-sidecar/],
    ['an unknown command', ['sevre'], /unknown command 'sevre'\s+\(Did you mean serve\?\)/],
    ['an unknown flag', ['serve', '--prot', '1'], /unknown option '--prot'\s+\(Did you mean --port\?\)/],
    ['a flag without its value', ['serve', '--port'], /argument missing/],
    ['fetch without --to', ['fetch', 'models:/a/1', '--once'], /required option '--to <dir>' not specified/],
    [
      'fetch of what is no model URI',
      ['fetch', 'models:/a', '--to', 'x'],
      /"models:\/a" names no stage, alias or version/,
    ],
    ['reload of what is no model URI', ['reload', 'models:/a/1', 'a'], /"a" is not a model URI/],
    ['a deadline that is none', ['reload', '--deadline', '0'], /Allowed: 0.1 to 86400/],
    ['an unknown --on-failure', ['reload', '--on-failure', 'ignore'], /Allowed choices are warn, fail/],
    ['an address that is none', ['status', '--url', 'localhost'], /--url must be http:\/\/host:port/],
    ['an address with a password', ['status', '--url', 'http://u:s3cret@x'], /without a user name/],
  ];
  test.each(cases)('%s', async (_case, args, words) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(words);
    expect(stderr).not.toMatch(/^\s+at |s3cret/m);
  });
});

test('the help of serve lists a flag for every option that may have one', async () => {
  const { code, stdout } = await run(['serve', '--help']);
  expect(code).toBe(0);
  for (const spec of OPTION_SPECS) expect(stdout).toContain(flagOf(spec) ?? spec.name);
});

test('the version is the package’s', async () => {
  expect(await run(['--version'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
  });
});

describe('serve --check', () => {
  test('a right configuration ends with 0', async () => {
    expect(await run(['serve', '--check'], MLFLOW)).toEqual({
      code: 0,
      stdout: 'The configuration is right.\n',
      stderr: '',
    });
  });

  test('a wrong one ends with 2 and names every fault, by flag, variable and key', async () => {
    const config = join(directory(), 'sidecar.yaml');
    writeFileSync(config, 'prot: 1\n');
    const args = ['serve', '--check', '--config', config, '--reload-deadline-s', 'soon', '--host', '0.0.0.0'];
    const { code, stderr } = await run(args, { SIDECAR_PORT: 'tcp://10.0.0.1:5080' });
    expect(code).toBe(2);
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toBe('mlflow-sidecar: the configuration has 6 faults:');
    for (const name of [
      'prot in',
      'MLFLOW_TRACKING_URI',
      '--reload-deadline-s',
      'SIDECAR_PORT',
      'SIDECAR_TOKEN',
      'SIDECAR_ALLOW',
    ]) {
      expect(lines.filter(line => line.startsWith(`  ${name}`))).toHaveLength(1);
    }
  });

  test('an unknown variable is a warning only', async () => {
    const { code, stderr } = await run(['serve', '--check'], { ...MLFLOW, SIDECAR_PROT: '1' });
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: 'SIDECAR_PROT is not an option and is ignored. Did you mean SIDECAR_PORT?\n',
    });
  });
});

test('a reader that goes away early is no error', async () => {
  const child = spawn(process.execPath, ['src/main.ts', 'serve', '--help'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  const errors: string[] = [];
  child.stderr.on('data', chunk => errors.push(String(chunk)));
  const [code] = await once(child, 'close');
  expect({ code, errors }).toEqual({ code: 0, errors: [] });
});
