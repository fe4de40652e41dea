import type { ErrorCode } from '../domain/errors.ts';
import type { ProxySource } from '../domain/events.ts';

export interface Passing {
  /** In bytes; null where MLflow does not say. */
  readonly length: number | null;
  readonly body: AsyncIterable<Uint8Array>;
  /** Has somebody told what was picked of it, once it is whole. */
  whenWhole(listener: (picked: unknown) => void): void;
  close(): void;
}

/** An answer to a client of MLflow's, in MLflow's own words. */
export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly contentType: string;
  /** In place of the text: a long answer of MLflow's as it comes. To be taken once, or closed. */
  readonly passing?: Passing;
  readonly source: ProxySource;
  /** Seconds since MLflow said so; null where it says so now. */
  readonly ageS: number | null;
  /** Why MLflow was not waited for; null where there was no need. */
  readonly stale: ErrorCode | null;
}

const JSON_TYPE = 'application/json';

/** What MLflow says now. */
export function answered(text: string, status = 200, contentType = JSON_TYPE): Answer {
  return { status, text, contentType, source: 'mlflow', ageS: null, stale: null };
}

/** An error as MLflow writes it. */
export function mlflowError(errorCode: string, message: string, more: object = {}): string {
  return JSON.stringify({ error_code: errorCode, message, ...more });
}
