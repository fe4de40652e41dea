/**
 * <cache>/v1/                    the layout's version; another release uses a sibling, so that going back works
 *   blobs/sha256/ab/abcd…        file contents by digest, read-only
 *   snapshots/<id>/…             one version as MLflow laid it out, hard links to blobs; complete from when it is visible
 *   models/<name>/<ref>          relative symlink to a snapshot, switched by one rename
 *   refs/<name>/<ref>.json       the ref's record
 *   state/manifests/<root>-<version>.json  what an artifact root held for one version, once that was fetched whole: a line of JSON, then
 *                                one for each file; `….json.doubted` from when its files were changed, or may have been, until it has been
 *                                fetched again
 *   state/used/<id>              its time says when the snapshot was last found, or superseded
 *   state/scopes/<id>/…          records of other registries and of callers' own credentials, laid out as refs/
 *   state/jobs/<id>.json         asynchronous reloads, for a day after their end
 *   state/answers/<key>.json     what MLflow last said of models and runs, for clients that ask while it is down
 *   state/quarantine/<sha256>    damaged blobs, and by their id damaged snapshots, for whoever wants to look at them
 *   state/partial/<key>/         the beginning of a large file whose download broke off: `data`, and `info.json` with how
 *                                much of it is on the disk, its hash, the ETag and the whole size; 24 h at most
 *   tmp/<process>/…              work in progress of one process; without its heartbeat it is litter
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { RefKey } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../../domain/version.ts';
import { COMPLETE, type FileSystem } from './file-system.ts';
import { encodeName } from './names.ts';

/** At the end of a manifest's name: it says what was there before a change. */
export const DOUBTED = '.doubted';

export class Layout {
  readonly root: string;
  readonly blobs: string;
  readonly snapshots: string;
  readonly models: string;
  readonly refs: string;
  readonly manifests: string;
  readonly used: string;
  readonly scopes: string;
  readonly jobs: string;
  readonly answers: string;
  readonly quarantine: string;
  readonly partials: string;
  readonly tmp: string;

  readonly fileSystem: FileSystem;

  constructor(cacheDir: string, fileSystem = COMPLETE) {
    this.fileSystem = fileSystem;
    this.root = join(cacheDir, 'v1');
    this.blobs = join(this.root, 'blobs', 'sha256');
    this.snapshots = join(this.root, 'snapshots');
    this.models = join(this.root, 'models');
    this.refs = join(this.root, 'refs');
    this.manifests = join(this.root, 'state', 'manifests');
    this.used = join(this.root, 'state', 'used');
    this.scopes = join(this.root, 'state', 'scopes');
    this.jobs = join(this.root, 'state', 'jobs');
    this.answers = join(this.root, 'state', 'answers');
    this.quarantine = join(this.root, 'state', 'quarantine');
    this.partials = join(this.root, 'state', 'partial');
    this.tmp = join(this.root, 'tmp');
  }

  /** Directories that others read, then the sidecar's own. */
  get shared(): readonly string[] {
    return [this.root, join(this.root, 'blobs'), this.blobs, this.snapshots, this.models, this.refs];
  }

  get private(): readonly string[] {
    const { manifests, used, scopes, jobs, answers, partials, quarantine, tmp } = this;
    return [join(this.root, 'state'), manifests, used, scopes, jobs, answers, partials, quarantine, tmp];
  }

  blob(sha256: string): string {
    return join(this.blobs, sha256.slice(0, 2), sha256);
  }

  snapshot(id: string): string {
    return join(this.snapshots, id);
  }

  link(key: RefKey): string {
    return join(this.models, this.#encode(key.name), this.#encode(key.ref));
  }

  /** The link that readers may resolve; null where the file system has none. */
  refPath(key: RefKey): string | null {
    return this.fileSystem.symlinks ? this.link(key) : null;
  }

  records(scope: Scope): string {
    return scope.own ? this.refs : join(this.scopes, scope.id);
  }

  record(scope: Scope, key: RefKey): string {
    return join(this.records(scope), this.#encode(key.name), `${this.#encode(key.ref)}.json`);
  }

  manifest(scope: Scope, wanted: VersionRoot): string {
    return join(this.manifests, this.manifestName(scope, wanted));
  }

  manifestName(scope: Scope, { root, version }: VersionRoot): string {
    return `${this.#rootKey(scope, root)}-${version}.json`;
  }

  /** Where what was fetched of a root used to be kept, for whichever version that was. */
  olderManifest(scope: Scope, root: ArtifactRoot): string {
    return join(this.manifests, `${this.#rootKey(scope, root)}.json`);
  }

  /** Whether a name in `manifests` is of this root, for whichever version. */
  isManifestOf(name: string, scope: Scope, root: ArtifactRoot): boolean {
    return name.startsWith(this.#rootKey(scope, root));
  }

  #rootKey(scope: Scope, root: ArtifactRoot): string {
    return createHash('sha256')
      .update(JSON.stringify([scope.id, root]))
      .digest('hex');
  }

  #encode(name: string): string {
    return encodeName(name, this.fileSystem.tellsCase);
  }
}
