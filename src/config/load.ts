import { readFileSync } from 'node:fs';
import { errnoOf } from '../domain/errors.ts';
import { cacheDirOf, type Read, readerOf } from './cache.ts';
import { crossCheck } from './checks.ts';
import { isLoopback } from './loopback.ts';
import type { MlflowOptions, Options, Schedule, Secret } from './options.ts';
import type { ConfiguredModel } from './prewarm-kinds.ts';
import type { Reader, Sources } from './reader.ts';
import type { OptionSpec } from './spec.ts';
import { OPTIONS } from './table.ts';
import type { Upstream } from './upstream.ts';
import { unknownVariables } from './variables.ts';

/** One try is cut off here, however long MLflow's own clients would wait, so that three fit into 30 s. */
const MAX_TRY_S = 5;
const MAX_ATTEMPTS = 3;

export type Loaded = Read<Options> & {
  /** Whether the cache directory was set, and is not the default. */
  readonly namesCache: boolean;
};

/** Flags over environment over YAML file. Gives the options, or everything that is wrong with them. */
export function loadOptions(sources: Sources): Loaded {
  const warnings = unknownVariables(sources.env);
  const reader = readerOf(sources);
  const tracking = reader.get(OPTIONS.trackingUri);
  if (tracking === null && reader.areSound(OPTIONS.trackingUri)) {
    reader.fault(OPTIONS.trackingUri, 'must be set to MLflow’s address, such as http://mlflow:5000.');
  }
  const options = readOptions(reader, sources, tracking ?? { uri: '', username: null, password: null });
  crossCheck(reader, options);
  const namesCache = reader.isSet(OPTIONS.cacheDir);
  return reader.faults.length > 0
    ? { warnings, namesCache, options: null, faults: reader.faults }
    : { warnings, namesCache, options, faults: null };
}

function readOptions(reader: Reader, sources: Sources, tracking: Upstream): Options {
  const host = reader.get(OPTIONS.host);
  const models = reader.get(OPTIONS.models);
  return {
    host,
    port: reader.get(OPTIONS.port),
    token: readToken(reader),
    allowedHosts: reader.get(OPTIONS.allowedHosts),
    allow: reader.get(OPTIONS.allow),
    cacheDir: cacheDirOf(reader, sources.env),
    cacheMaxBytes: reader.get(OPTIONS.cacheMaxBytes),
    models: models.map(({ uri }) => uri),
    schedules: readSchedules(reader, models),
    prewarmTimezone: reader.get(OPTIONS.prewarmTimezone),
    warmupS: reader.get(OPTIONS.warmupS),
    reloadDeadlineS: reader.get(OPTIONS.reloadDeadlineS),
    reloadDeadlineMaxS: reader.get(OPTIONS.reloadDeadlineMaxS),
    refreshWaitS: reader.get(OPTIONS.refreshWaitS),
    maxStaleS: reader.get(OPTIONS.maxStaleS),
    breakerFailures: reader.get(OPTIONS.breakerFailures),
    breakerResetS: reader.get(OPTIONS.breakerResetS),
    proxy: reader.get(OPTIONS.proxy) ?? (isLoopback(host) ? 'full' : 'read-only'),
    freshS: reader.get(OPTIONS.freshS),
    fileRoots: reader.get(OPTIONS.fileRoots),
    metricsAddr: reader.get(OPTIONS.metricsAddr),
    logLevel: reader.get(OPTIONS.logLevel),
    mlflow: readMlflow(reader, tracking),
  };
}

function readSchedules(reader: Reader, models: readonly ConfiguredModel[]): readonly Schedule[] {
  const common = reader.get(OPTIONS.prewarm);
  return models.flatMap(({ uri, cron: own }) => {
    const cron = own ?? common;
    return cron === null ? [] : [{ uri, cron }];
  });
}

function readMlflow(reader: Reader, tracking: Upstream): MlflowOptions {
  const registry = reader.get(OPTIONS.registryUri) ?? tracking;
  if (registry.username !== tracking.username || registry.password !== tracking.password) {
    reader.fault(
      OPTIONS.registryUri,
      `must hold the same user name and password as ${reader.nameOf(OPTIONS.trackingUri)}, since one credential is used for both. MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD hold for both.`,
    );
  }
  return {
    trackingUri: tracking.uri,
    registryUri: registry.uri,
    workspace: reader.get(OPTIONS.workspace),
    credentials: readCredentials(reader, tracking),
    tls: {
      insecure: reader.get(OPTIONS.insecureTls),
      serverCertPath: reader.get(OPTIONS.serverCertPath),
      clientCertPath: reader.get(OPTIONS.clientCertPath),
    },
    tryTimeoutMs: Math.min(MAX_TRY_S, reader.get(OPTIONS.requestTimeoutS)) * 1_000,
    attempts: Math.min(MAX_ATTEMPTS, reader.get(OPTIONS.maxRetries) + 1),
    proxy: {
      http: reader.get(OPTIONS.httpProxy),
      https: reader.get(OPTIONS.httpsProxy),
      noProxy: reader.get(OPTIONS.noProxy),
    },
  };
}

function readCredentials(reader: Reader, tracking: Upstream): MlflowOptions['credentials'] {
  const username = readSecret(reader, OPTIONS.username, OPTIONS.usernameFile);
  const password = readSecret(reader, OPTIONS.password, OPTIONS.passwordFile);
  const token = readSecret(reader, OPTIONS.mlflowToken, OPTIONS.mlflowTokenFile);
  // As in MLflow's clients, what stands in the address wins.
  if (tracking.username === null || tracking.password === null) return { username, password, token };
  return { username: { value: tracking.username }, password: { value: tracking.password }, token };
}

type TextSpec = OptionSpec<string, null>;

function readSecret(reader: Reader, spec: TextSpec, fileSpec: TextSpec): Secret | null {
  const value = reader.get(spec);
  const file = reader.get(fileSpec);
  if (value !== null && file !== null) {
    reader.fault(fileSpec, `and ${reader.nameOf(spec)} are both set. Set one of them.`);
  }
  if (value !== null) return { value };
  return file === null ? null : { file };
}

function readToken(reader: Reader): string | null {
  const secret = readSecret(reader, OPTIONS.token, OPTIONS.tokenFile);
  if (secret === null) return null;
  if ('value' in secret) return secret.value;
  try {
    const parsed = OPTIONS.token.kind.parse(readFileSync(secret.file, 'utf8'));
    if ('value' in parsed) return parsed.value;
    reader.fault(
      OPTIONS.tokenFile,
      `is a file whose content cannot be a token. Allowed: ${OPTIONS.token.kind.allowed}.`,
    );
  } catch (error) {
    reader.fault(OPTIONS.tokenFile, `cannot be read (${errnoOf(error)}).`);
  }
  return null;
}
