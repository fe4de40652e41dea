import type { ManifestFile } from '../domain/manifest.ts';

/** A file that can be read, from now on and until whoever gave it says otherwise. */
export interface Readable {
  /** @param to exclusive; the end of the file where null */
  read(from: number, to: number | null, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Told how the files of one run come, whichever run it is that fetches them. */
export interface Follower {
  /** Some bytes. */
  came(): void;
  /** It can be read while it grows; null where it cannot any more. */
  grows(path: string, growing: Readable | null): void;
  /** It was taken in. */
  whole(file: ManifestFile): void;
}

interface Arrival {
  readonly path: string;
  readonly followers: Set<Follower>;
  growing: Readable | null;
}

/** Who follows which file, over all runs: what one of them fetches, others may be waiting for. */
export class Arrivals {
  readonly #files = new Map<string, Arrival>();

  /** Until what it returns is called. @param key of the file, the same in every run that would have it from another */
  follow(key: string, path: string, follower: Follower): () => void {
    const arrival = this.#files.get(key) ?? { path, followers: new Set(), growing: null };
    this.#files.set(key, arrival);
    arrival.followers.add(follower);
    if (arrival.growing !== null) follower.grows(path, arrival.growing);
    return () => {
      arrival.followers.delete(follower);
      if (arrival.followers.size === 0) this.#files.delete(key);
    };
  }

  came(key: string): void {
    for (const follower of this.#files.get(key)?.followers ?? []) follower.came();
  }

  grows(key: string, growing: Readable | null): void {
    const arrival = this.#files.get(key);
    if (arrival === undefined || arrival.growing === growing) return;
    arrival.growing = growing;
    for (const follower of arrival.followers) follower.grows(arrival.path, growing);
  }
}
