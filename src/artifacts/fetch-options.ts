import type { EventBus } from '../domain/events.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import type { SingleFlight } from '../policy/single-flight.ts';
import type { Arrivals, Follower, Readable } from './arrivals.ts';
import type { Growing, PartLimits } from './large.ts';
import type { RunLimits } from './limits.ts';

export type Blob = Omit<ManifestFile, 'path'>;

/** A large file on its way in: to be taken when it is whole, or left for the next try. */
interface LargeIntake {
  readonly growing: Growing;
  /** What there is of it. */
  readonly followed: Readable;
  take(): Promise<Blob>;
  leave(): Promise<void>;
}

/** Where the files go. */
interface Intake {
  /** A small file that has come whole; it is written together with others. */
  takeBytes(bytes: Uint8Array): Promise<Blob>;
  /** A large one, with what an earlier try left of it unless `fresh`. */
  partial(key: { readonly identity: string; readonly total: number }, fresh: boolean): Promise<LargeIntake>;
  /**
   * Takes a body in, whole or not at all.
   * @param size what the listing says, in bytes; null where it says nothing
   * @throws SidecarError `artifact_corrupt` where the body has another size
   */
  take(body: AsyncIterable<Uint8Array>, size: number | null): Promise<Blob>;
  /** Also wants a file that another run took in. */
  share(blob: Blob): void;
}

/** How the files of one run are fetched, and where they go. */
export interface FetchOptions extends RunLimits {
  readonly intake: Intake;
  readonly parts: PartLimits;
  readonly floor: FloorLimits;
  readonly events: EventBus;
  /** A file that two runs want is fetched by one of them. */
  readonly flight: SingleFlight<Blob>;
  /** Both follow it. */
  readonly arrivals: Arrivals;
  /** Of this run. */
  readonly follower: Follower;
  /** The id of the scope: what one credential fetches is not for another. */
  readonly scope: string;
  /** What tells these files from others at the same addresses: of another version, or of another moment. */
  readonly edition: string;
  /** From nothing, and not together with a run that may go on with what is there. */
  readonly force: boolean;
}
