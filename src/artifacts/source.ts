import type { Breaker } from '../policy/breaker.ts';
import type { Call } from '../upstream/mlflow-client.ts';

/** Fifty times the largest model that we know of; a listing beyond it is an attack or a mistake. */
export const MAX_ENTRIES = 50_000;

/** One name in a directory. */
export interface Entry {
  readonly name: string;
  readonly isDir: boolean;
  /** In bytes; null where the store does not say. */
  readonly size: number | null;
}

/** A part of a file. Both ends are inclusive, as in HTTP. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** A part that is wanted; what comes may be the whole file all the same. */
export interface WantedRange extends Range {
  /** The strong ETag of the content that it must be a part of; null for the first part. */
  readonly etag: string | null;
}

/** A file that is worth no stream of its own. */
export interface SmallFile {
  readonly path: string;
  /** In bytes, as the listing has it. */
  readonly size: number;
  /** Many more of its kind are to come. */
  readonly isOneOfMany: boolean;
}

/** Told how a file comes. */
export interface Progress {
  /** The other side has done its work: what it still has to do is to send. */
  answered(): void;
  came(bytes: number): void;
}

export interface OpenFile {
  /** Each piece is valid until the next one is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
  /** What the other side says that it sends, in bytes. */
  readonly length: number | null;
  /** Whether a cut can be told from the end: by the length, by chunks, by the file system. */
  readonly hasEnd: boolean;
  /** What this content is called; null where the other side gives no strong ETag. */
  readonly etag: string | null;
  /** Which part the body is, and of how many bytes; null for a whole file. */
  readonly part: (Range & { readonly total: number }) | null;
  /** Frees what stands behind a body that is not read to its end. */
  close(): void;
}

/**
 * Where the bytes of one artifact root come from. Names and paths are unchecked: they are whatever the other side says.
 * A directory that is missing, one that is empty and a path that is a file all list as empty.
 */
export interface ArtifactSource {
  /** The artifact root that it was made for. */
  readonly root: string;
  /** Of the server that it asks; none for local files. */
  readonly breaker?: Breaker | undefined;
  /** @param dir relative to the root, `''` for the root itself */
  list(dir: string, call: Call): Promise<readonly Entry[]>;
  /**
   * Tries once. The body breaks off with an error where the other side does. A part that comes is not yet known to be the
   * one that is wanted.
   */
  open(path: string, call: Call, range?: WantedRange): Promise<OpenFile>;
  /**
   * Tries once to get a small file as a whole.
   * @throws SidecarError `artifact_corrupt` where it has another size or breaks off
   */
  read(file: SmallFile, call: Call, progress: Progress): Promise<Uint8Array>;
}
