import type { ModelUri } from '../domain/model-uri.ts';

/** As it stands, or in a file that is read again when MLflow refuses what it held. */
export type Secret = { readonly value: string } | { readonly file: string };

/** What the sidecar shows MLflow. As in MLflow, a user name and password win over a token. */
export interface CredentialSource {
  readonly username: Secret | null;
  readonly password: Secret | null;
  readonly token: Secret | null;
}

export interface MlflowOptions {
  /** `http(s)://host[:port][/prefix]`, without credentials and without a slash at its end; so is `registryUri`. */
  readonly trackingUri: string;
  readonly registryUri: string;
  readonly workspace: string | null;
  readonly credentials: CredentialSource;
  readonly tls: {
    readonly insecure: boolean;
    readonly serverCertPath: string | null;
    /** PEM, certificate and key in one file, as MLflow has it. */
    readonly clientCertPath: string | null;
  };
  /** At most 5,000. */
  readonly tryTimeoutMs: number;
  /** 1 to 3, the first one included. */
  readonly attempts: number;
  readonly proxy: {
    readonly http: string | null;
    readonly https: string | null;
    readonly noProxy: string | null;
  };
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const PROXY_MODES = ['off', 'read-only', 'full'] as const;
/** What MLflow's own clients may do through the sidecar. */
export type ProxyMode = (typeof PROXY_MODES)[number];

/** When a model is pre-warmed. */
export interface Schedule {
  readonly uri: ModelUri;
  /** Five fields, six with seconds first, or a nickname. */
  readonly cron: string;
}

/** Everything that can be set, checked. Paths are absolute. */
export interface Options {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly token: string | null;
  readonly allowedHosts: readonly string[];
  /** Patterns of model URIs; empty: all. */
  readonly allow: readonly string[];
  readonly cacheDir: string;
  readonly cacheMaxBytes: number;
  readonly models: readonly ModelUri[];
  /** At most one for each of the models. */
  readonly schedules: readonly Schedule[];
  /** Of all schedules; a name of the IANA database. */
  readonly prewarmTimezone: string;
  /** 0: no warm-up. */
  readonly warmupS: number;
  readonly reloadDeadlineS: number;
  readonly reloadDeadlineMaxS: number;
  readonly refreshWaitS: number;
  readonly maxStaleS: number;
  /** Failed tries in a row. */
  readonly breakerFailures: number;
  readonly breakerResetS: number;
  readonly proxy: ProxyMode;
  readonly freshS: number;
  readonly fileRoots: readonly string[];
  /** Where metrics and health alone are served, to everybody; null: nowhere. A null host is every address. */
  readonly metricsAddr: { readonly host: string | null; readonly port: number } | null;
  readonly logLevel: LogLevel;
  readonly mlflow: MlflowOptions;
}
