import { hash } from 'node:crypto';
import { readlink, rename, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { errnoOf, type SidecarError } from '../../domain/errors.ts';
import { type ModelUri, refKey } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import {
  isAbsent,
  isGone,
  makeDirectory,
  readIfThere,
  removeEmpty,
  removeLink,
  replaceLink,
  writeFileDurably,
} from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { Vanished } from '../disk/vanished.ts';
import { type Published, parseRef, type Ref, serializeRef } from './ref-record.ts';

/** There is nothing, or something else than a link. */
const NO_LINK = new Set(['ENOENT', 'ENOTDIR', 'EINVAL']);

/** The refs' records and links. */
export class RefFiles {
  readonly #layout: Layout;
  readonly #tmp: string;
  readonly #readOnly: SidecarError | null;
  /** Digests of the records that this process wrote. */
  readonly #written = new Map<string, string>();
  readonly #ours = new WeakSet<Ref>();

  /** @param readOnly why nothing can be written; null where it can */
  constructor(layout: Layout, tmp: string, readOnly: SidecarError | null) {
    this.#layout = layout;
    this.#tmp = tmp;
    this.#readOnly = readOnly;
  }

  /** Without links readers find what is published by the records. */
  get #hasLinks(): boolean {
    return this.#layout.fileSystem.symlinks;
  }

  /** As the record has it; null where there is none of this scope. */
  async read(scope: Scope, uri: ModelUri): Promise<Ref | null> {
    const path = this.#layout.record(scope, refKey(uri));
    const text = await readIfThere(path);
    const found = text === null ? null : parseRef(text);
    if (text === null || found?.scopeId !== scope.id) return null;
    if (digestOf(text) === this.#written.get(path)) this.#ours.add(found.ref);
    return found.ref;
  }

  /** The same, but null also where its snapshot is gone. */
  async readWhole(scope: Scope, uri: ModelUri): Promise<Ref | null> {
    const ref = await this.read(scope, uri);
    return (await this.#isThere(ref?.published ?? null)) ? ref : null;
  }

  async #isThere(published: Published | null): Promise<boolean> {
    return published !== null && !(await isGone(this.#layout.snapshot(published.snapshot)));
  }

  /** Replaces the record. */
  async write(scope: Scope, ref: Ref): Promise<void> {
    if (this.#readOnly !== null) throw this.#readOnly;
    const path = this.#layout.record(scope, refKey(ref.uri));
    if (scope.own) await this.#putAside(path, scope);
    const text = serializeRef(ref, scope.id);
    await inDirectory(path, () => writeFileDurably(path, text, this.#tmp, 0o444));
    this.#written.set(path, digestOf(text));
  }

  /** Whether what was read is what this process wrote: then it is no news, whatever the clock says by now. */
  isOurs(read: Ref): boolean {
    return this.#ours.has(read);
  }

  /** Another process shows another registry in the same place: what it serves stays on record, and so in the cache. */
  async #putAside(path: string, scope: Scope): Promise<void> {
    const text = await readIfThere(path);
    const found = text === null ? null : parseRef(text);
    if (found === null || found.scopeId === scope.id) return;
    const theirs = { id: found.scopeId, own: false };
    const place = this.#layout.record(theirs, refKey(found.ref.uri));
    await makeDirectory(this.#layout.records(theirs), 0o700);
    await makeDirectory(dirname(place), 0o755);
    await rename(path, place);
  }

  /**
   * Makes readers see it: first the record, which keeps the snapshot from being collected, and once it is certain that it
   * was not collected just before, the link.
   */
  async show(scope: Scope, ref: Ref, before: Ref): Promise<void> {
    await this.write(scope, ref);
    if (ref.published === null) return;
    if (!(await this.#isThere(ref.published))) {
      await this.write(scope, before);
      throw new Vanished();
    }
    if (!scope.own || !this.#hasLinks) return;
    const link = this.#layout.link(refKey(ref.uri));
    const { snapshot } = ref.published;
    await inDirectory(link, () => replaceLink(link, this.#layout.snapshot(snapshot), this.#tmp));
  }

  /** Takes the link away, unless it points to another snapshot by now. */
  async hide(scope: Scope, { uri, published }: Ref): Promise<void> {
    if (!scope.own || published === null || !this.#hasLinks) return;
    await removeLink(this.#layout.link(refKey(uri)), this.#layout.snapshot(published.snapshot));
  }

  /** Whether the link points to what the ref has published; a disk that fails does not say that it points elsewhere. */
  async isShown(scope: Scope, { uri, published }: Ref): Promise<boolean> {
    if (!scope.own || published === null) return true;
    if (!this.#hasLinks)
      return await this.read(scope, uri).then(
        found => found?.published?.snapshot === published.snapshot,
        () => true,
      );
    const link = this.#layout.link(refKey(uri));
    const wanted = relative(dirname(link), this.#layout.snapshot(published.snapshot));
    return await readlink(link).then(
      found => found === wanted,
      error => !NO_LINK.has(errnoOf(error)),
    );
  }

  /** @param path of the record, from the layout's root */
  async remove(path: string): Promise<void> {
    const { refs, models, scopes, root } = this.#layout;
    const record = join(root, path);
    const dir = dirname(record);
    if (dirname(dir) === refs) {
      const link = join(models, relative(refs, record).replace(/\.json$/, ''));
      await rm(link, { force: true });
      await removeEmpty(dirname(link));
    }
    await rm(record, { force: true });
    this.#written.delete(record);
    // One that is filled again meanwhile stays, and whoever writes there makes it again.
    await removeEmpty(dir);
    if (dirname(dirname(dir)) === scopes) await removeEmpty(dirname(dir));
  }
}

/** Makes the directory of `path` for `write`; once more where it was removed in between, being empty. */
async function inDirectory(path: string, write: () => Promise<void>): Promise<void> {
  await makeDirectory(dirname(path), 0o755);
  try {
    await write();
  } catch (error) {
    if (!isAbsent(error)) throw error;
    await makeDirectory(dirname(path), 0o755);
    await write();
  }
}

function digestOf(text: string): string {
  return hash('sha256', text, 'base64');
}
