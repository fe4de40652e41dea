import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { type ArtifactRoot, type ModelVersion, type VersionRoot, versionKey } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { DownloadUriAnswer, toModelVersion, VersionAnswer } from '../registry/answers.ts';
import { assertAddressOf } from '../registry/asked.ts';
import type { RegistryCall } from '../registry/client.ts';
import type { Registry } from '../registry/registry.ts';
import type { Cache } from '../store/cache.ts';
import { rootOf } from '../store/records/ref-record.ts';
import { type Answer, answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { Interests } from './interests.ts';
import type { Lookback } from './lookback.ts';
import { PROXIED_MS, type Questions } from './questions.ts';
import { type Read, textOf, versionRead } from './reads.ts';
import { addressAtMlflow, addressOf } from './roots.ts';

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
    const { questions, interests } = this.#options;
    // A version is told by more than its number, and its root by more than its address: both can come again with other bytes.
    const [answer, whose] = await Promise.all([
      questions.answer(read, asker, () => published()?.answer ?? null),
      questions.answer(versionRead(name, version), asker).catch(toSidecarError),
    ]);
    const located = await this.#located(answer, whose, asker, published());
    if (located === null || !this.#isServed(located.root.root)) return located?.answer ?? answer;
    interests.located(asker.scope, name, version, located.root);
    const path = addressOf(located.root).map(encodeURIComponent).join('/');
    return { ...located.answer, text: JSON.stringify({ artifact_uri: `${self}${ARTIFACTS}${path}` }) };
  }

  /** What is published of a version, as MLflow would say it. */
  #published({ scope }: Asker, name: string, version: string): Located | null {
    const refs = this.#options.cache.opened?.refs;
    const given = refs === undefined ? null : this.#options.lookback.version(refs, scope, name, version);
    const root = given === null ? null : rootOf(given.published);
    if (given === null || root === null) return null;
    const text = JSON.stringify({ artifact_uri: root.root[0] });
    return { root, answer: { ...answered(text), source: 'store', ageS: Math.floor(given.ageS) } };
  }

  /**
   * Null where MLflow says that there is none, or not whose it is.
   * @param whose what MLflow says of the version
   */
  async #located(
    answer: Answer,
    whose: Answer | SidecarError,
    asker: Asker,
    published: Located | null,
  ): Promise<Located | null> {
    const uri = answer.status === 200 ? uriIn(answer) : null;
    if (uri === null) return null;
    if (answer.stale !== null && published !== null) return { ...published, answer };
    try {
      if (whose instanceof SidecarError) throw whose;
      if (whose.stale !== null && published !== null)
        return { ...published, answer: { ...answer, stale: whose.stale } };
      const version = whose.status === 200 ? versionIn(whose) : null;
      if (version === null) return null;
      assertAddressOf(version, uri);
      const limitMs = published === null ? PROXIED_MS : this.#options.refreshWaitMs;
      const root = await this.#inTime(uri, limitMs, call => this.#options.registry.follow(uri, call), asker);
      const located = { root, version: versionKey(version) };
      if (await this.#isUnfinished(located, version, limitMs, asker)) return null;
      return { root: located, answer };
    } catch (error) {
      // What is there of the version is the same, wherever MLflow says that it is.
      const { code } = toSidecarError(error);
      if (published !== null) return { ...published, answer: { ...published.answer, stale: code } };
      if (answer.stale !== null) return null;
      throw error;
    }
  }

  /** Whether files of it may still come: then it is MLflow's to give. What a client was told of before is not. */
  async #isUnfinished(
    located: VersionRoot,
    version: ModelVersion,
    limitMs: number,
    asker: Asker,
  ): Promise<boolean> {
    const { registry, interests } = this.#options;
    if (version.modelId === null || interests.has(asker.scope, located)) return false;
    const what = `models:/${version.modelId}`;
    return (await this.#inTime(what, limitMs, call => registry.unfinished(version, call), asker)) !== null;
  }

  /** What an address is of, and whether it is finished, is MLflow's to say. */
  async #inTime<T>(
    uri: string,
    limitMs: number,
    ask: (call: RegistryCall) => Promise<T>,
    asker: Asker,
  ): Promise<T> {
    const { authorization, workspace } = asker.caller;
    const asked = ask({ signal: this.#options.stop, authorization, workspace, origin: null });
    asked.catch(() => undefined);
    const answer = await within(limitMs, asked);
    if (answer !== TOO_LATE) return answer;
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
    return canRead(root) && (takes || addressAtMlflow(root) !== null);
  }
}

/** A root, and the answer that names it. */
interface Located {
  readonly root: VersionRoot;
  readonly answer: Answer;
}

function versionIn({ text }: Answer): ModelVersion | null {
  const found = VersionAnswer.safeParse(JSON.parse(text)).data;
  return found === undefined ? null : toModelVersion(found.model_version);
}

function uriIn({ text }: Answer): string | null {
  return DownloadUriAnswer.safeParse(JSON.parse(text)).data?.artifact_uri ?? null;
}
