import { randomUUID } from 'node:crypto';
import pLimit from 'p-limit';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { DeadlineReloader } from './reloader.ts';

/** Callers' own fetches come first. */
const AT_ONCE = 2;

/** Fetches again what was damaged, of the sidecar's own refs; what others' credentials fetched, they fetch when they ask. */
export class Repair {
  readonly #reloader: Pick<DeadlineReloader, 'renew'>;
  readonly #limit = pLimit(AT_ONCE);
  readonly #wanted = new Map<string, ModelUri>();

  constructor(reloader: Pick<DeadlineReloader, 'renew'>) {
    this.#reloader = reloader;
  }

  /** Resolves when each is there, or could not be fetched; then it is tried again by `retry`. */
  async repair(uris: readonly ModelUri[]): Promise<void> {
    const fresh = uris.filter(uri => !this.#wanted.has(formatModelUri(uri)));
    for (const uri of fresh) this.#wanted.set(formatModelUri(uri), uri);
    await this.#renewAll(fresh);
  }

  /** What could not be fetched so far. */
  async retry(): Promise<void> {
    await this.#renewAll([...this.#wanted.values()]);
  }

  async #renewAll(uris: readonly ModelUri[]): Promise<void> {
    await Promise.all(uris.map(uri => this.#limit(() => this.#renew(uri))));
  }

  async #renew(uri: ModelUri): Promise<void> {
    const caller = { requestId: randomUUID(), airflow: {}, authorization: null };
    await this.#reloader.renew(uri, caller).then(
      () => this.#wanted.delete(formatModelUri(uri)),
      // The run has told why.
      () => undefined,
    );
  }
}
