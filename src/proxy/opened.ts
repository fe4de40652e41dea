import type { Answer } from './answer.ts';

/** @param to exclusive; the end of the file where null */
type ReadPart = (from: number, to: number | null, signal: AbortSignal) => AsyncIterable<Uint8Array>;

/** A body of MLflow's as it comes, with what MLflow says of it. */
export interface Passed {
  readonly kind: 'passed';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** In bytes; null where MLflow does not say. */
  readonly length: number | null;
  readonly body: AsyncIterable<Uint8Array>;
  /** Frees what stands behind a body that is not read to its end. */
  close(): void;
}

/** In the store, whole and verified; to be closed. */
export interface StoredFile extends Pick<Answer, 'ageS' | 'stale'> {
  readonly kind: 'stored';
  /** In bytes. */
  readonly size: number;
  readonly sha256: string;
  /** @param to exclusive */
  readonly read: (from: number, to: number) => AsyncIterable<Uint8Array>;
  readonly close: () => void;
}

/** A file for a client. */
export type Opened =
  | StoredFile
  /** On its way into the store. */
  | { readonly kind: 'arriving'; readonly size: number; readonly read: ReadPart }
  /** None of a version's: from MLflow to the client. */
  | Passed
  /** None at all. */
  | { readonly kind: 'answer'; readonly answer: Answer };

/** A request for a file. */
export interface FileRequest {
  /** Decoded, below the artifact server's address. */
  readonly segments: readonly string[];
  readonly method: 'GET' | 'HEAD';
  /** Of a part, or of what the client has already; for MLflow where it is MLflow who answers. */
  readonly headers: Readonly<Record<string, string>>;
  /** Aborts when the client has left. */
  readonly signal: AbortSignal;
}
