import { untilAborted } from './abort.ts';

interface Entry<Work> {
  readonly work: Work;
  readonly controller: AbortController;
  waiting: number;
}

export interface Share<T, Work> {
  readonly work: Work;
  /** What the work gives, or the signal's reason as soon as that aborts: its caller has left. */
  readonly wait: (signal: AbortSignal) => Promise<T>;
}

/** Equal work is done once, and for as long as anybody waits for it. */
export class SharedWork<T, Work extends { readonly done: Promise<T> }> {
  readonly #entries = new Map<string, Entry<Work>>();

  /**
   * The work of that key, begun unless it is under way; to be waited for at once.
   * @param begin gets a signal that aborts once everybody has left
   * @param isCurrent whether what is under way is still worth joining; it goes on for those who have
   */
  join(
    key: string,
    begin: (left: AbortSignal) => Work,
    isCurrent: (work: Work) => boolean = () => true,
  ): Share<T, Work> {
    const known = this.#entries.get(key);
    const entry = known !== undefined && isCurrent(known.work) ? known : this.#begin(key, begin);
    entry.waiting++;
    return { work: entry.work, wait: signal => this.#wait(key, entry, signal) };
  }

  #begin(key: string, begin: (left: AbortSignal) => Work): Entry<Work> {
    const controller = new AbortController();
    const entry = { work: begin(controller.signal), controller, waiting: 0 };
    this.#entries.set(key, entry);
    const forget = () => this.#forget(key, entry);
    entry.work.done.then(forget, forget);
    return entry;
  }

  async #wait(key: string, entry: Entry<Work>, signal: AbortSignal): Promise<T> {
    try {
      return await untilAborted(entry.work.done, signal);
    } finally {
      entry.waiting--;
      if (entry.waiting === 0) {
        this.#forget(key, entry);
        if (signal.aborted) entry.controller.abort(signal.reason);
      }
    }
  }

  /** Whoever comes after everybody has left begins anew. */
  #forget(key: string, entry: Entry<Work>): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }
}
