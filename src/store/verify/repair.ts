import { type SidecarError, toSidecarError } from '../../domain/errors.ts';
import type { Refs, Withdrawal } from '../records/refs.ts';
import type { Quarantine } from './quarantine.ts';
import { type Parts, rebuild } from './rebuild.ts';
import type { Harm } from './scrub.ts';

interface RepairOptions {
  readonly quarantine: Quarantine;
  readonly refs: Refs;
  readonly parts: Parts;
  /** Why nothing can be written; null where it can. */
  readonly problem: SidecarError | null;
}

export interface Quarantined {
  readonly refs: Withdrawal['refs'];
  /** Why it could not be moved; null where it was. */
  readonly problem: SidecarError | null;
}

/** Takes what is damaged away, and makes anew what needs no MLflow for that. */
export class Repair {
  readonly #options: RepairOptions;

  constructor(options: RepairOptions) {
    this.#options = options;
  }

  /**
   * Gives nothing of what is damaged from this moment on, also where it cannot be moved; returns the refs that did, but
   * for those whose snapshot could be made anew. What cannot be read stays where it is; the refs that give it are returned.
   */
  async take(harm: Harm): Promise<Quarantined> {
    const { quarantine, problem } = this.#options;
    const { refs, save } = this.#options.refs.withdraw(harm.snapshots);
    if (harm.snapshots.length + harm.blobs.length === 0)
      return { refs: this.#options.refs.givers(harm.unreadable), problem: null };
    try {
      if (problem !== null) throw problem;
      await quarantine.take(harm);
      // Not before: a record that names nothing would not keep a restart from finding the snapshot where it was.
      await save();
      return { refs: await this.#restore(harm, refs), problem: null };
    } catch (error) {
      return { refs, problem: toSidecarError(error) };
    }
  }

  /** What can be without MLflow; returns the other refs. */
  async #restore({ roots }: Harm, withdrawn: Withdrawal['refs']): Promise<Withdrawal['refs']> {
    const { refs, parts } = this.#options;
    const rebuilt = await rebuild(roots, parts);
    for (const snapshot of rebuilt) refs.withdrawn.readmit(snapshot);
    const isRebuilt = ({ ref }: (typeof withdrawn)[number]) => rebuilt.has(ref.published?.snapshot ?? '');
    await refs.restore(withdrawn.filter(isRebuilt));
    return withdrawn.filter(entry => !isRebuilt(entry));
  }
}
