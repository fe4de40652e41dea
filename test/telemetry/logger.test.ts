import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { errorFields } from '../../src/telemetry/error-fields.ts';
import { LineBuffer } from '../../src/telemetry/logger.ts';
import { log } from './support.ts';

test('a line has an ISO time, the level’s name and the message', () => {
  const target = log();
  target.logger.warn({ a: 1 }, 'hello');
  expect(target.lines()).toEqual([
    { level: 'warn', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/), a: 1, msg: 'hello' },
  ]);
});

test('what is below the level is not written, and with "silent" nothing is', () => {
  const [warn, silent] = [log(undefined, 'warn'), log(undefined, 'silent')];
  for (const { logger } of [warn, silent]) {
    logger.info('x');
    logger.fatal('y');
  }
  expect(warn.lines()).toMatchObject([{ msg: 'y' }]);
  expect(silent.text()).toBe('');
});

describe('of an error', () => {
  test('code, reason, hint and the messages of its causes are told', () => {
    const cause = new Error('connect refused', {
      cause: new AggregateError([new Error('::1'), new Error('127.0.0.1')], 'all'),
    });
    const error = new SidecarError('mlflow_unreachable', 'MLflow does not answer.', {
      hint: 'Start it.',
      cause,
    });
    expect(errorFields(error)).toEqual({
      code: 'mlflow_unreachable',
      reason: 'MLflow does not answer.',
      hint: 'Start it.',
      causes: ['connect refused', 'all', '::1', '127.0.0.1'],
    });
  });

  test('the stack is told only where nobody foresaw it', () => {
    expect(errorFields(new SidecarError('mlflow_error', 'x'))).not.toHaveProperty('stack');
    const unforeseen = new TypeError('x is not a function');
    expect(errorFields(unforeseen)).toMatchObject({
      code: 'internal',
      reason: 'x is not a function',
      stack: unforeseen.stack,
    });
  });

  test('a ring of causes has an end', () => {
    const error = new Error('a');
    error.cause = new Error('b', { cause: error });
    expect(errorFields(new SidecarError('mlflow_error', 'x', { cause: error })).causes).toEqual(['a', 'b']);
  });

  test.each([null, undefined, 'text', 42, { message: 'x' }])('%o as a thrown value is no trouble', thrown => {
    expect(errorFields(thrown)).toMatchObject({ code: 'internal' });
  });
});

test('buffered lines of any length come whole and in order, and more than 1 MiB of them is counted', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-log-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const path = join(dir, 'log');
  const file = await open(path, 'w');
  onTestFinished(() => file.close());
  const buffer = new LineBuffer(file, dropped => buffer.write(`${dropped} dropped\n`));
  const lines = Array.from({ length: 500 }, (_, at) => `${at} ${'é'.repeat(at * 10)}\n`);
  for (const line of lines) buffer.write(line);
  await buffer.flush(5_000);
  buffer.write('last\n');
  await buffer.flush(5_000);
  const kept: string[] = [];
  for (let bytes = 0; bytes <= 1_048_576; bytes += Buffer.byteLength(kept.at(-1) ?? '')) {
    kept.push(lines[kept.length] ?? '');
  }
  kept.pop();
  const written = await readFile(path, 'utf8');
  expect(written === `${kept.join('')}${lines.length - kept.length} dropped\nlast\n`).toBe(true);
  expect(lines.length - kept.length).toBeGreaterThan(100);
});
