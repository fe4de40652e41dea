import { SidecarError } from '../domain/errors.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { DownloadUriAnswer } from '../registry/answers.ts';
import type { Registry } from '../registry/registry.ts';
import type { Cache } from '../store/cache.ts';
import { type Answer, answered } from './answer.ts';
import type { Interests } from './interests.ts';
import type { Lookback } from './lookback.ts';
import { type Asker, PROXIED_MS, type Questions } from './questions.ts';
import { type Read, textOf } from './reads.ts';
import { addressOf } from './roots.ts';

export interface AddressesOptions {
  readonly questions: Questions;
  readonly registry: Registry;
  readonly interests: Interests;
  readonly lookback: Lookback;
  readonly cache: Cache;
  /** Whether the sidecar can fetch from there. */
  readonly canRead: (root: ArtifactRoot) => boolean;
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
    const known: { root: ArtifactRoot | null } = { root: null };
    const answer = await this.#options.questions.answer(read, asker, () => {
      const refs = this.#options.cache.opened?.refs;
      const given = refs && this.#options.lookback.version(refs, asker.scope, name, version);
      known.root = given?.published.root ?? null;
      return known.root === null
        ? null
        : { ...answered(''), source: 'store', ageS: Math.floor(given?.ageS ?? 0) };
    });
    const root = known.root ?? (await this.#rootIn(answer, asker).catch(unless(answer.stale === null)));
    if (root === null || !this.#options.canRead(root)) return answer;
    this.#options.interests.located(asker.scope, name, version, root);
    const path = addressOf(root).map(encodeURIComponent).join('/');
    return { ...answer, text: JSON.stringify({ artifact_uri: `${self}${ARTIFACTS}${path}` }) };
  }

  /** Null where MLflow says that there is none. */
  async #rootIn(
    { status, text }: Answer,
    { caller: { authorization, workspace } }: Asker,
  ): Promise<ArtifactRoot | null> {
    const uri = status === 200 ? DownloadUriAnswer.safeParse(JSON.parse(text)).data?.artifact_uri : undefined;
    if (uri === undefined) return null;
    const call = { signal: this.#options.stop, authorization, workspace, origin: null };
    const root = await within(PROXIED_MS, this.#options.registry.follow(uri, call));
    if (root !== TOO_LATE) return root;
    throw new SidecarError(
      'mlflow_timeout',
      `MLflow did not say within ${PROXIED_MS / 1_000} s where ${uri} is.`,
    );
  }
}

/** What is kept may lead on to what MLflow would have to be asked for; then it goes as it is. */
function unless(isOfNow: boolean): (error: unknown) => null {
  return error => {
    if (isOfNow) throw error;
    return null;
  };
}
