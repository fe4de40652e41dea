import { SidecarError } from '../domain/errors.ts';
import { matchesGlob, mayMatch } from '../domain/glob.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import type { VersionRoot } from '../domain/version.ts';
import type { Refs } from '../store/records/refs.ts';
import type { Interests } from './interests.ts';
import { askedUris } from './lookback.ts';
import { type Read, stagesOf, textOf } from './reads.ts';

/** What clients may load, by the patterns of model URIs that are allowed. */
export class Allowed {
  readonly #patterns: readonly string[];
  readonly #interests: Interests;
  readonly #isAll: boolean;

  /** @param patterns none allows everything */
  constructor(patterns: readonly string[], interests: Interests) {
    this.#patterns = patterns;
    this.#interests = interests;
    this.#isAll = patterns.length === 0 || patterns.includes('*');
  }

  /** @throws SidecarError `not_allowed` */
  assertRead(read: Read, scope: Scope, refs: Refs | null): void {
    if (this.#isAll || this.#mayAsk(read, scope, refs)) return;
    throw refused(`What ${read.question.path} is asked for`);
  }

  /**
   * Of a version that was found by a path of its files.
   * @throws SidecarError `not_allowed`
   */
  assertRoot(root: VersionRoot, scope: Scope, refs: Refs): void {
    if (this.#isAll || this.#interests.has(scope, root)) return;
    const isPublished = refs
      .all(scope)
      .some(({ uri, published }) => published?.root?.[0] === root.root[0] && this.#allows(uri));
    if (!isPublished) throw refused('The version');
  }

  /**
   * Of a file or directory that belongs to no version.
   * @throws SidecarError `not_allowed`
   */
  assertPath(path: string, scope: Scope): void {
    if (this.#isAll) return;
    const uri = this.#interests.runUriOf(scope, `mlflow-artifacts:/${path}`);
    const parts = uri?.kind === 'run' ? uri.path.split('/') : [];
    const isOfRun = parts.some((_, last) =>
      this.#allows({
        kind: 'run',
        runId: uri?.kind === 'run' ? uri.runId : '',
        path: parts.slice(0, last + 1).join('/'),
      }),
    );
    if (!isOfRun) throw refused(`The artifact ${path}`);
  }

  #allows(uri: ModelUri): boolean {
    const text = formatModelUri(uri);
    return this.#patterns.some(pattern => matchesGlob(pattern, text));
  }

  #mayBegin(...beginnings: readonly string[]): boolean {
    return beginnings.some(text => this.#patterns.some(pattern => mayMatch(pattern, text)));
  }

  #mayAsk(read: Read, scope: Scope, refs: Refs | null): boolean {
    const name = textOf(read, 'name') ?? '';
    switch (read.route) {
      case 'server-info':
        return true;
      case 'registered-models/get':
        return this.#mayBegin(`models:/${name}/`, `models:/${name}@`);
      case 'registered-models/alias':
        return this.#allows({ kind: 'alias', name, alias: textOf(read, 'alias') ?? '' });
      case 'registered-models/get-latest-versions': {
        const stages = stagesOf(read);
        return stages.length === 0
          ? this.#allows({ kind: 'latest', name })
          : askedUris(read).length === stages.length && askedUris(read).every(uri => this.#allows(uri));
      }
      case 'model-versions/get':
      case 'model-versions/get-download-uri':
        return this.#mayHaveVersion(name, textOf(read, 'version') ?? '', scope, refs);
      case 'logged-models/*':
        return this.#allows({ kind: 'logged_model', modelId: textOf(read, 'model_id') ?? '' });
      case 'runs/get':
        return this.#mayBegin(`runs:/${textOf(read, 'run_id') ?? ''}/`);
      // A search shows what nobody named.
      default:
        return false;
    }
  }

  /** By its number, or because a URI that is allowed means it. */
  #mayHaveVersion(name: string, version: string, scope: Scope, refs: Refs | null): boolean {
    if (this.#allows({ kind: 'version', name, version })) return true;
    if (this.#interests.meaning(scope, name, version).some(uri => this.#allows(uri))) return true;
    const published = refs?.all(scope) ?? [];
    return published.some(
      ({ uri, published: is }) =>
        is?.version.name === name && is.version.version === version && this.#allows(uri),
    );
  }
}

function refused(what: string): SidecarError {
  return new SidecarError('not_allowed', `${what} is not allowed here.`, {
    hint: 'SIDECAR_ALLOW lists the patterns of model URIs that may be asked for.',
  });
}
