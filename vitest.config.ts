import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { IS_STRICT } from './test/support/limits.ts';

const E2E = 'test/e2e/**/*.test.ts';
/** They are right or wrong, however slow the machine is; what the slow ones do is wait. */
const CRASH = [
  'test/crash/**/*.test.ts',
  'test/cli/materialize-crash.test.ts',
  ...['jobs', 'proxy-writes', 'scrub', 'slow', 'storm'].map(name => `test/faults/${name}.test.ts`),
];
/** `npm run chaos` holds the built sidecar to limits of milliseconds with them, one file after the other; `npm test` gives these limits room. */
const TIMED = ['test/faults/**/*.test.ts', 'test/clients/deadline.test.ts'];

/** It needs the archive of Airflow's chart, which no package registry has: AIRFLOW_CHARTS names it. */
const WITH_ARCHIVE = 'test/helm/airflow-chart.test.ts';

/** A busy machine is late by seconds: what `expect.poll` waits for comes in the end, or never. */
const POLLED = { poll: { timeout: 20_000 } };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [E2E, ...CRASH, ...TIMED, ...(process.env['AIRFLOW_CHARTS'] ? [] : [WITH_ARCHIVE])],
          // Vitest leaves one core idle, and most of these wait at times.
          maxWorkers: IS_STRICT ? 1 : availableParallelism() + 1,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          expect: POLLED,
        },
      },
      {
        test: {
          name: 'crash',
          include: CRASH,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
          expect: POLLED,
        },
      },
      {
        test: {
          name: 'timed',
          include: TIMED,
          exclude: CRASH,
          maxWorkers: IS_STRICT ? 1 : 3,
          sequence: { groupOrder: IS_STRICT ? 2 : 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
          expect: POLLED,
        },
      },
      {
        test: {
          name: 'e2e',
          include: [E2E],
          globalSetup: 'test/e2e/global-setup.ts',
          // One after the other: they share two MLflow servers, and one of them freezes one.
          fileParallelism: false,
          // After the others, whose time limits should not suffer from Python's hunger.
          sequence: { groupOrder: 3 },
          testTimeout: 180_000,
          hookTimeout: 120_000,
          expect: POLLED,
        },
      },
    ],
  },
});
