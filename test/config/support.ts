import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { formatFault } from '../../src/config/faults.ts';
import { loadOptions } from '../../src/config/load.ts';
import type { Options } from '../../src/config/options.ts';

type Texts = Readonly<Record<string, string>>;

export const MLFLOW = { MLFLOW_TRACKING_URI: 'http://mlflow:5000' };

/** The options of this environment, on top of an MLflow and a home. */
export function options(env: Texts = {}, flags: Texts = {}): Options {
  const loaded = loadOptions({ env: { ...MLFLOW, HOME: '/home/u', ...env }, flags });
  if (loaded.options === null) throw new Error(loaded.faults.map(formatFault).join('\n'));
  return loaded.options;
}

/** What is wrong with this environment, a line for each fault. */
export function faults(env: Texts = {}, flags: Texts = {}): readonly string[] {
  return (loadOptions({ env: { ...MLFLOW, HOME: '/home/u', ...env }, flags }).faults ?? []).map(formatFault);
}

/** A file that lives as long as the test. */
export function file(content: string, name = 'file'): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecar-config-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, name), content);
  return join(dir, name);
}

/** What the checks look for; no TLS is spoken with it. */
export const CERTIFICATE = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n';
export const PRIVATE_KEY = '-----BEGIN EC PRIVATE KEY-----\nMA==\n-----END EC PRIVATE KEY-----\n';
