import { readlink } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import type { SidecarError } from '../domain/errors.ts';
import { formatModelUri, type ModelUri, refKey } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { BackgroundSaves } from './background-saves.ts';
import { isThere, makeDirectory, readIfThere, removeLink, replaceLink, writeFileDurably } from './durable.ts';
import type { Layout } from './layout.ts';
import { type Published, parseRef, type Ref, serializeRef } from './ref-record.ts';
import { Withdrawn } from './withdrawn.ts';

/** A ref as it is kept in memory; `order` is of the registry's answer that it was published or confirmed by. */
interface Entry {
  readonly scope: Scope;
  readonly ref: Ref;
  readonly order: number;
}

export interface Withdrawal {
  /** As they were. */
  readonly refs: readonly Entry[];
  readonly save: () => Promise<void>;
}

/**
 * What every URI points to: in memory for whoever asks, on disk for restarts and for readers. The record is written
 * before the link is switched, and a restart makes the link follow the record.
 */
export class Refs {
  readonly #layout: Layout;
  readonly #tmp: string;
  readonly #readOnly: SidecarError | null;
  readonly #onWriteError: (error: Error) => void;
  readonly #entries = new Map<string, Entry>();
  readonly #writing = new Map<string, Promise<void>>();
  readonly #unsaved = new Set<string>();
  readonly withdrawn = new Withdrawn();
  readonly #saves = new BackgroundSaves();

  /** @param readOnly why nothing can be written; null where it can */
  constructor(
    layout: Layout,
    tmp: string,
    readOnly: SidecarError | null,
    onWriteError: (error: Error) => void,
  ) {
    this.#layout = layout;
    this.#tmp = tmp;
    this.#readOnly = readOnly;
    this.#onWriteError = onWriteError;
  }

  /** Takes over what recovery found on the disk. */
  adopt(scope: Scope, ref: Ref): void {
    this.#entries.set(keyOf(scope, ref.uri), { scope, ref, order: 0 });
  }

  get(scope: Scope, uri: ModelUri): Ref {
    return this.#entries.get(keyOf(scope, uri))?.ref ?? { ...UNKNOWN, uri };
  }

  all(scope: Scope): readonly Ref[] {
    return [...this.#entries.values()].filter(entry => entry.scope.id === scope.id).map(entry => entry.ref);
  }

  /** Of all scopes. */
  everyone(): readonly Ref[] {
    return [...this.#entries.values()].map(entry => entry.ref);
  }

  /** @param uri a canonical text */
  knows(scope: Scope, uri: string): boolean {
    return this.#entries.has(`${scope.id}\n${uri}`);
  }

  /**
   * Makes `published` what readers get; durable when it resolves.
   * @param order of the registry's answer; an older answer than the one published by is ignored
   */
  async publish(
    scope: Scope,
    uri: ModelUri,
    published: Published,
    order: number,
    now: number,
  ): Promise<void> {
    await this.#exclusively(keyOf(scope, uri), async key => {
      if (order < this.#order(key)) return;
      this.withdrawn.refuse(published.snapshot);
      const before = this.get(scope, uri);
      await this.#show(scope, { ...before, published, confirmedAt: now, refusedAt: null });
      this.withdrawn.refuse(published.snapshot);
      const meanwhile = this.get(scope, uri);
      // A newer answer confirmed what was published before.
      if (order < this.#order(key)) return await this.#show(scope, meanwhile);
      const refusedAt = meanwhile.refusedAt === before.refusedAt ? null : meanwhile.refusedAt;
      this.#entries.set(key, { scope, ref: { ...meanwhile, published, confirmedAt: now, refusedAt }, order });
    });
  }

  /** MLflow says that what is published is wanted. Seen at once, saved in the background. */
  confirm(scope: Scope, uri: ModelUri, version: Published['version'], order: number, now: number): void {
    const ref = this.get(scope, uri);
    if (order < this.#order(keyOf(scope, uri)) || ref.published === null) return;
    this.#note(
      scope,
      { ...ref, published: { ...ref.published, version }, confirmedAt: now, refusedAt: null },
      order,
    );
  }

  /** Notes what MLflow last said, or that it refuses the credential. */
  note(scope: Scope, uri: ModelUri, news: Partial<Pick<Ref, 'resolved' | 'refusedAt'>>): void {
    this.#note(scope, { ...this.get(scope, uri), ...news }, this.#order(keyOf(scope, uri)));
  }

  /** Whether readers see what is published here: another process on this directory may have switched the link. */
  async isShown(scope: Scope, uri: ModelUri): Promise<boolean> {
    const { published } = this.get(scope, uri);
    if (!scope.own || published === null) return true;
    const link = this.#layout.link(refKey(uri));
    const found = await readlink(link).catch(() => null);
    return found === relative(dirname(link), this.#layout.snapshot(published.snapshot));
  }

  /** Forgets a snapshot that is not on the disk any more. */
  unpublish(scope: Scope, uri: ModelUri): void {
    this.#forget(scope, uri)().catch(this.#onWriteError);
  }

  /** Gives none of these snapshots from now on. Returns the refs that did, and what writes that down. */
  withdraw(snapshots: readonly string[]): Withdrawal {
    this.withdrawn.add(snapshots);
    const given = [...this.#entries.values()].filter(({ ref }) =>
      this.withdrawn.has(ref.published?.snapshot),
    );
    const saves = given.map(({ scope, ref }) => this.#forget(scope, ref.uri));
    return { refs: given, save: async () => void (await Promise.all(saves.map(save => save()))) };
  }

  /** Takes that back for those whose snapshot was made anew; what was published meanwhile stays. */
  async restore(refs: Withdrawal['refs']): Promise<void> {
    for (const { scope, ref, order } of refs) {
      const { uri, published, confirmedAt } = ref;
      if (published === null || confirmedAt === null || this.get(scope, uri).published !== null) continue;
      await this.publish(scope, uri, published, order, confirmedAt);
      if (ref.refusedAt !== null) this.note(scope, uri, { refusedAt: ref.refusedAt });
    }
  }

  /** Resolves when everything noted so far has been saved, or could not be. */
  async flush(): Promise<void> {
    this.#saves.hurry();
    await Promise.all(this.#writing.values());
  }

  #order(key: string): number {
    return this.#entries.get(key)?.order ?? 0;
  }

  #note(scope: Scope, ref: Ref, order: number): void {
    const key = keyOf(scope, ref.uri);
    this.#entries.set(key, { scope, ref, order });
    if (this.#readOnly !== null || this.#unsaved.has(key)) return;
    this.#unsaved.add(key);
    this.#saves.schedule(key, () => this.#save(scope, ref.uri));
  }

  #save(scope: Scope, uri: ModelUri): void {
    this.#exclusively(keyOf(scope, uri), async key => {
      this.#unsaved.delete(key);
      await this.#saves.save(async () => {
        await this.#adoptNewer(scope, uri);
        await this.#write(scope, this.get(scope, uri));
      });
    }).catch(this.#onWriteError);
  }

  /** In memory at once; what it returns does so on the disk, but for a link or a record that names another by now. */
  #forget(scope: Scope, uri: ModelUri): () => Promise<void> {
    const key = keyOf(scope, uri);
    const before = this.get(scope, uri);
    const ref = { ...before, published: null, confirmedAt: null };
    this.#entries.set(key, { scope, ref, order: this.#order(key) });
    return async () => {
      if (this.#readOnly !== null || before.published === null) return;
      const { snapshot } = before.published;
      await this.#exclusively(key, async () => {
        await this.#adoptNewer(scope, uri);
        await this.#write(scope, this.get(scope, uri));
        if (!scope.own || this.get(scope, uri).published !== null) return;
        await removeLink(this.#layout.link(refKey(uri)), this.#layout.snapshot(snapshot));
      });
    };
  }

  /** What another process on this directory published since is not taken back by what we have to note. */
  async #adoptNewer(scope: Scope, uri: ModelUri): Promise<void> {
    const text = await readIfThere(this.#layout.record(scope, refKey(uri)));
    const found = text === null ? null : parseRef(text);
    if (found?.scopeId !== scope.id) return;
    const { published, confirmedAt } = found.ref;
    const isGone = published !== null && !(await isThere(this.#layout.snapshot(published.snapshot)));
    const ours = this.get(scope, uri);
    if (isGone || (confirmedAt ?? 0) <= (ours.confirmedAt ?? 0)) return;
    if (this.withdrawn.has(published?.snapshot)) return;
    const ref = { ...ours, published, confirmedAt };
    this.#entries.set(keyOf(scope, uri), { scope, ref, order: this.#order(keyOf(scope, uri)) });
  }

  async #write(scope: Scope, ref: Ref): Promise<void> {
    if (this.#readOnly !== null) throw this.#readOnly;
    const path = this.#layout.record(scope, refKey(ref.uri));
    await makeDirectory(dirname(path), 0o755);
    await writeFileDurably(path, serializeRef(ref, scope.id), this.#tmp, 0o444);
  }

  /** Makes readers see it: first the record, then the link. */
  async #show(scope: Scope, ref: Ref): Promise<void> {
    await this.#write(scope, ref);
    if (!scope.own || ref.published === null) return;
    const link = this.#layout.link(refKey(ref.uri));
    await makeDirectory(dirname(link), 0o755);
    await replaceLink(link, this.#layout.snapshot(ref.published.snapshot), this.#tmp);
  }

  /** One writer a ref at a time, in the order asked for. */
  #exclusively(key: string, work: (key: string) => Promise<void>): Promise<void> {
    const before = this.#writing.get(key) ?? Promise.resolve();
    const done = before.then(() => work(key));
    const settled = done
      .catch(() => undefined)
      .finally(() => {
        if (this.#writing.get(key) === settled) this.#writing.delete(key);
      });
    this.#writing.set(key, settled);
    return done;
  }
}

const UNKNOWN = { resolved: null, published: null, confirmedAt: null, refusedAt: null } as const;

function keyOf(scope: Scope, uri: ModelUri): string {
  return `${scope.id}\n${formatModelUri(uri)}`;
}
