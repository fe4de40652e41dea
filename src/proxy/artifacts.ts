import { join } from 'node:path';
import { z } from 'zod';
import { type ErrorCode, toSidecarError } from '../domain/errors.ts';
import type { Scope } from '../domain/scope.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { OpenFile, Unreadable } from '../store/disk/open-file.ts';
import type { Change } from '../store/records/doubts.ts';
import type { Allowed } from './allowed.ts';
import type { Answer } from './answer.ts';
import type { Asker } from './asker.ts';
import type { Downloads } from './downloads.ts';
import type { Interests } from './interests.ts';
import type { FileRequest, Opened } from './opened.ts';
import type { PassedFiles } from './passed-files.ts';
import type { Old, PriorVersions } from './prior.ts';
import type { Questions } from './questions.ts';
import { listingOf } from './reads.ts';
import { atMlflow } from './roots.ts';
import { listingAnswer, noSuchArtifact, unknownAddress } from './tree.ts';
import type { Coming, Stored, Versions } from './versions.ts';

export interface ArtifactsOptions {
  readonly versions: Versions;
  readonly downloads: Downloads;
  readonly interests: Interests;
  readonly allowed: Allowed;
  readonly questions: Questions;
  readonly passed: PassedFiles;
  readonly prior: PriorVersions;
  readonly refreshWaitMs: number;
}

/** From where a listing or a file may come. */
interface Ways<T> {
  /** See Versions. */
  readonly what: 'listing' | 'file';
  readonly ofVersion: (found: Stored | Coming) => T | Promise<T>;
  readonly ofMlflow: (segments: readonly string[]) => Promise<T>;
  readonly ofOld: (old: Old) => T | Promise<T>;
  /** Gives up what came too late. */
  readonly drop: (late: T) => void;
}

/** The cache takes nothing, which is no reason for a client of MLflow's to get nothing. */
const CACHE_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['disk_full', 'internal']);

const Listing = z.object({ files: z.array(z.object({ path: z.string() })) });

const NOT_STALE = { ageS: null, stale: null };

/**
 * MLflow's artifact server: what belongs to a version comes from the store, or on its way there; everything else is asked of MLflow
 * each time, since it may change.
 */
export class Artifacts {
  readonly #options: ArtifactsOptions;

  constructor(options: ArtifactsOptions) {
    this.#options = options;
  }

  /**
   * @param segments of the directory; none for all there is
   * @throws SidecarError why it cannot be had, and there is nothing to say instead
   */
  async list(segments: readonly string[], asker: Asker): Promise<Answer> {
    return await this.#firstOf<Answer>(segments, asker, {
      what: 'listing',
      ofVersion: found => this.#listed(found, asker),
      ofMlflow: own => this.#askForListing(own, asker),
      ofOld: async ({ version, path, ageS, stale }) => {
        return { ...(await listingAnswer(version.list, path, 'store')), ageS, stale };
      },
      drop: () => undefined,
    });
  }

  /** @throws SidecarError why it cannot be had, and there is nothing to say instead */
  async open(request: FileRequest, asker: Asker): Promise<Opened> {
    const { passed } = this.#options;
    return await this.#firstOf<Opened>(request.segments, asker, {
      what: 'file',
      ofVersion: found => this.#openFound(found, request, asker),
      ofMlflow: own => {
        const atOwn = { ...request, segments: own };
        return passed.open(atOwn, asker, reason => this.#openInstead(atOwn, asker, reason.code));
      },
      ofOld: old => storedFile(old, request, { ageS: old.ageS, stale: old.stale }),
      drop: opened => {
        if ('close' in opened) opened.close();
      },
    });
  }

  /** Where somebody removed the files of a version that is remembered, it is looked for once more. */
  async #openFound(found: Stored | Coming, request: FileRequest, asker: Asker): Promise<Opened> {
    if (found.kind === 'arriving') return await this.#openComing(found, request);
    const { versions } = this.#options;
    try {
      return await storedFile(found, request, NOT_STALE);
    } catch (error) {
      if (!isGone(error)) throw error;
      versions.lost(found, asker);
      const again = await versions.find(request.segments, asker, 'file');
      if (again === null) throw error;
      return again.kind === 'stored'
        ? await storedFile(again, request, NOT_STALE)
        : await this.#openComing(again, request);
    }
  }

  /** What is published of a run, where the disk gives it. */
  async #openInstead(request: FileRequest, asker: Asker, stale: ErrorCode): Promise<Opened | null> {
    const { versions } = this.#options;
    const run = await versions.ofRun(request.segments, asker);
    if (run === null) return null;
    try {
      return await storedFile(run, request, { ageS: run.ageS, stale });
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      if (error.isGone) versions.lost(run, asker);
      return null;
    }
  }

  /** See Versions. */
  async changed(change: Change, reader: Scope): Promise<void> {
    await this.#options.versions.changed(change, reader);
  }

  /**
   * As it is now; where it may have changed and nobody says what it is now, at least not soon, as it was before. Whoever was given
   * that as a listing gets the files to it.
   */
  async #firstOf<T>(segments: readonly string[], asker: Asker, ways: Ways<T>): Promise<T> {
    const { prior, refreshWaitMs } = this.#options;
    const isInDoubt = prior.isInDoubt(segments, asker);
    const lately = ways.what === 'file' || isInDoubt ? prior.lately(segments, asker) : null;
    if (lately !== null) return await ways.ofOld(lately);
    const now = this.#now(segments, asker, ways);
    try {
      const soon = isInDoubt ? await within(refreshWaitMs, now) : await now;
      if (soon !== TOO_LATE) return soon;
      const old = await prior.find(segments, asker, 'mlflow_timeout');
      if (old === null) return await now;
      // Nobody waits for it any more.
      now.then(ways.drop, () => undefined);
      return await ways.ofOld(old);
    } catch (error) {
      const { code } = toSidecarError(error);
      const old = code === 'not_allowed' ? null : await prior.find(segments, asker, code);
      if (old === null) throw error;
      return await ways.ofOld(old);
    }
  }

  /** Of the version that the path belongs to; else, and where the cache cannot take it, of MLflow. */
  async #now<T>(
    segments: readonly string[],
    asker: Asker,
    { what, ofVersion, ofMlflow }: Ways<T>,
  ): Promise<T> {
    let fault = unknownAddress();
    try {
      const found = await this.#options.versions.find(segments, asker, what);
      if (found !== null) return await ofVersion(found);
    } catch (error) {
      fault = toSidecarError(error);
      if (!(fault instanceof Unreadable || CACHE_FAULTS.has(fault.code))) throw fault;
    }
    const own = atMlflow(segments);
    if (own === null) throw fault;
    this.#options.allowed.assertPath(own.join('/'), asker.scope);
    return await ofMlflow(own);
  }

  async #listed(found: Stored | Coming, asker: Asker): Promise<Answer> {
    const { downloads, prior } = this.#options;
    downloads.publish(found.store, found.root, asker);
    if (found.kind === 'stored') {
      prior.forget(found.root, asker);
      return await listingAnswer(found.version.list, found.path, 'store');
    }
    const { arriving, path } = found;
    const files = await downloads.inTime(arriving, arriving.listed);
    prior.forget(found.root, asker);
    return await listingAnswer(files, path, 'download');
  }

  async #openComing({ arriving, path }: Coming, { segments, signal }: FileRequest): Promise<Opened> {
    const { downloads } = this.#options;
    await downloads.inTime(arriving, arriving.listed);
    if (!arriving.has(path))
      return { kind: 'answer', answer: noSuchArtifact(segments.join('/'), 'download') };
    const file = arriving.file(path);
    return {
      kind: 'arriving',
      size: await downloads.inTime(arriving, file.size(signal)),
      read: (from, to, left) => downloads.pieces(arriving, file.read(from, to, left)),
    };
  }

  async #askForListing(segments: readonly string[], asker: Asker): Promise<Answer> {
    const { questions, interests, versions } = this.#options;
    const path = segments.join('/');
    const answer = await questions.answer(listingOf(path), asker, async () => {
      const run = await versions.ofRun(segments, asker);
      if (run === null) return null;
      return { ...(await listingAnswer(run.version.list, run.path, 'store')), ageS: run.ageS };
    });
    const address = `mlflow-artifacts:/${path}`;
    const show = () => {
      const uri = interests.runUriOf(asker.scope, address);
      const root = interests.runRootOf(asker.scope, address);
      if (uri !== null && root !== null) interests.shows(asker.scope, root, uri);
    };
    answer.passing?.whenWhole(picked => {
      if (hasModel(picked)) show();
    });
    if (saysModel(answer)) show();
    return answer;
  }
}

async function storedFile(
  { store, version, path }: Stored,
  { segments, signal }: FileRequest,
  age: Pick<Answer, 'ageS' | 'stale'>,
): Promise<Opened> {
  const known = version.files.get(path);
  if (known === undefined)
    return { kind: 'answer', answer: { ...noSuchArtifact(segments.join('/'), 'store'), ...age } };
  const { size, sha256 } = known;
  const file = await OpenFile.open(join(store.layout.snapshot(version.snapshot), path), signal);
  const read = (from: number, to: number) => file.read(from, to);
  return { kind: 'stored', size, sha256, read, close: () => file.close(), ...age };
}

function isGone(error: unknown): boolean {
  return error instanceof Unreadable && error.isGone;
}

/** And by MLflow's word: what is given instead of it may be of the run's model, which is elsewhere. */
function saysModel({ status, stale, text }: Answer): boolean {
  return status === 200 && stale === null && /"path":\s*"MLmodel"/.test(text);
}

function hasModel(listing: unknown): boolean {
  return Listing.safeParse(listing).data?.files.some(({ path }) => path === 'MLmodel') ?? false;
}
