import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { DownloadUriAnswer } from '../registry/answers.ts';
import type { Registry } from '../registry/registry.ts';
import type { Cache } from '../store/cache.ts';
import { type Answer, answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { Interests } from './interests.ts';
import type { Lookback } from './lookback.ts';
import { PROXIED_MS, type Questions } from './questions.ts';
import { type Read, textOf } from './reads.ts';
import { addressOf, isMlflows } from './roots.ts';

export interface AddressesOptions {
  readonly questions: Questions;
  readonly registry: Registry;
  readonly interests: Interests;
  readonly lookback: Lookback;
  readonly cache: Cache;
  /** Whether the sidecar can fetch from there. */
  readonly canRead: (root: ArtifactRoot) => boolean;
  readonly refreshWaitMs: number;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts/';

/** Where the files of a version are: with the sidecar, for whatever it can read, so that no client goes around it. */
export class Addresses {
  readonly #options: AddressesOptions;

  constructor(options: AddressesOptions) {
    this.#options = options;
  }

  /**
   * @param self the sidecar's address as the caller reached it, without a slash at its end
   * @throws SidecarError why it cannot be had, and there is nothing to say instead
   */
  async answer(read: Read, asker: Asker, self: string): Promise<Answer> {
    const name = textOf(read, 'name') ?? '';
    const version = textOf(read, 'version') ?? '';
    const published = () => this.#published(asker, name, version);
    const answer = await this.#options.questions.answer(read, asker, () => published()?.answer ?? null);
    const located = await this.#located(answer, asker, published());
    if (located === null || !this.#isServed(located.root)) return located?.answer ?? answer;
    this.#options.interests.located(asker.scope, name, version, located.root);
    const path = addressOf(located.root).map(encodeURIComponent).join('/');
    return { ...located.answer, text: JSON.stringify({ artifact_uri: `${self}${ARTIFACTS}${path}` }) };
  }

  /** What is published of a version, as MLflow would say it. */
  #published({ scope }: Asker, name: string, version: string): Located | null {
    const refs = this.#options.cache.opened?.refs;
    const given = refs === undefined ? null : this.#options.lookback.version(refs, scope, name, version);
    const root = given?.published.root;
    if (given === null || root === undefined) return null;
    const text = JSON.stringify({ artifact_uri: root[0] });
    return { root, answer: { ...answered(text), source: 'store', ageS: Math.floor(given.ageS) } };
  }

  /** Null where MLflow says that there is none. */
  async #located(answer: Answer, asker: Asker, published: Located | null): Promise<Located | null> {
    const uri = answer.status === 200 ? uriIn(answer) : null;
    if (uri === null) return null;
    if (answer.stale !== null && published !== null) return { ...published, answer };
    try {
      return { root: await this.#follow(uri, asker, published === null ? PROXIED_MS : undefined), answer };
    } catch (error) {
      // What is there of the version is the same, wherever MLflow says that it is.
      const { code } = toSidecarError(error);
      if (published !== null) return { ...published, answer: { ...published.answer, stale: code } };
      if (answer.stale !== null) return null;
      throw error;
    }
  }

  /** The address may be of another model, or of a run, for which MLflow has to be asked. */
  async #follow(uri: string, asker: Asker, limitMs = this.#options.refreshWaitMs): Promise<ArtifactRoot> {
    const { authorization, workspace } = asker.caller;
    const call = { signal: this.#options.stop, authorization, workspace, origin: null };
    const following = this.#options.registry.follow(uri, call);
    following.catch(() => undefined);
    const root = await within(limitMs, following);
    if (root !== TOO_LATE) return root;
    throw new SidecarError(
      'mlflow_timeout',
      `MLflow did not say within ${limitMs / 1_000} s where ${uri} is.`,
    );
  }

  /** Where the cache takes nothing, only what MLflow's own artifact server has can pass through. */
  #isServed(root: ArtifactRoot): boolean {
    const { canRead, cache } = this.#options;
    const store = cache.opened;
    const takes = store !== null && store.problem === null && !store.disk.isHanging;
    return canRead(root) && (takes || isMlflows(addressOf(root)));
  }
}

/** A root, and the answer that names it. */
interface Located {
  readonly root: ArtifactRoot;
  readonly answer: Answer;
}

function uriIn({ text }: Answer): string | null {
  return DownloadUriAnswer.safeParse(JSON.parse(text)).data?.artifact_uri ?? null;
}
