import type { SidecarError } from '../../domain/errors.ts';
import type { ModelUri } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import { Turns } from '../../policy/turns.ts';
import type { Layout } from '../disk/layout.ts';
import { RefFiles } from './ref-files.ts';
import type { Published, Ref } from './ref-record.ts';
import { RefSaves } from './ref-saves.ts';
import { type Entry, isEmpty, keyOf, RefTable } from './ref-table.ts';
import type { Usage } from './usage.ts';
import { Withdrawn } from './withdrawn.ts';

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
  readonly #files: RefFiles;
  readonly #readOnly: SidecarError | null;
  readonly #onWriteError: (error: Error) => void;
  readonly #usage: Usage;
  readonly #table = new RefTable();
  readonly models: Pick<RefTable, 'names' | 'named'> = this.#table;
  /** One writer a ref at a time. */
  readonly #turns = new Turns();
  readonly #saves: RefSaves;
  readonly withdrawn = new Withdrawn();
  #lastOrder = 0;

  /** @param readOnly why nothing can be written; null where it can */
  constructor(
    layout: Layout,
    tmp: string,
    readOnly: SidecarError | null,
    onWriteError: (error: Error) => void,
    usage: Usage,
  ) {
    this.#files = new RefFiles(layout, tmp, readOnly);
    this.#readOnly = readOnly;
    this.#onWriteError = onWriteError;
    this.#usage = usage;
    this.#saves = new RefSaves(this.#turns, (scope, uri) => this.#save(scope, uri), onWriteError);
  }

  /** For a question that is about to be asked: its answer is newer than those of all before it. */
  nextOrder(): number {
    return ++this.#lastOrder;
  }

  /** Takes over what recovery found on the disk. @param isToSave it is other than there */
  adopt(scope: Scope, ref: Ref, isToSave = false): void {
    if (isToSave) this.#note(scope, ref, 0);
    else this.#table.set({ scope, ref, order: 0 });
  }

  get(scope: Scope, uri: ModelUri): Ref {
    return this.#table.get(scope, uri).ref;
  }

  all(scope: Scope): readonly Ref[] {
    return this.models.names(scope).flatMap(name => this.models.named(scope, name));
  }

  entries(): readonly Entry[] {
    return this.#table.all;
  }

  /** How many refs have something to give, and how many bytes that is. */
  published(): { readonly models: number; readonly bytes: number } {
    return this.#table.tally;
  }

  /** @param uri a canonical text */
  knows(scope: Scope, uri: string): boolean {
    return this.#table.has(scope, uri);
  }

  /**
   * Makes `published` what readers get; durable when it resolves.
   * @param order of the registry's answer; an older answer than the one published by is ignored
   * @throws Vanished where its snapshot was removed meanwhile; what was published stays
   */
  async publish(
    scope: Scope,
    uri: ModelUri,
    published: Published,
    order: number,
    now: number,
  ): Promise<void> {
    await this.#turns.take(keyOf(scope, uri), async () => {
      if (order < this.#order(scope, uri)) return;
      this.withdrawn.refuse(published.snapshot);
      const before = this.get(scope, uri);
      const replaced = await this.#replacedBy(published, scope, before);
      const previous = replaced ?? before.previous;
      await this.#files.show(
        scope,
        { ...before, published, previous, confirmedAt: now, refusedAt: null },
        before,
      );
      this.withdrawn.refuse(published.snapshot);
      const meanwhile = this.get(scope, uri);
      // A newer answer confirmed what was published before.
      if (order < this.#order(scope, uri)) return await this.#files.show(scope, meanwhile, before);
      const refusedAt = meanwhile.refusedAt === before.refusedAt ? null : meanwhile.refusedAt;
      const ref = { ...meanwhile, published, previous, confirmedAt: now, refusedAt };
      this.#table.set({ scope, ref, order });
      if (replaced !== null) await this.#usage.superseded(replaced);
    });
  }

  /** The snapshot that readers get until now, where it is another: perhaps another process published it. */
  async #replacedBy(published: Published, scope: Scope, before: Ref): Promise<string | null> {
    const found = await this.#files.read(scope, before.uri);
    const shown = found?.published ?? before.published;
    return shown === null || shown.snapshot === published.snapshot ? null : shown.snapshot;
  }

  /** MLflow says that what is published is wanted. Seen at once, saved in the background. */
  confirm(scope: Scope, uri: ModelUri, version: Published['version'], order: number, now: number): void {
    const ref = this.get(scope, uri);
    if (order < this.#order(scope, uri) || ref.published === null) return;
    this.#note(
      scope,
      { ...ref, published: { ...ref.published, version }, confirmedAt: now, refusedAt: null },
      order,
    );
  }

  /** Notes what MLflow last said, or that it refuses the credential. */
  note(scope: Scope, uri: ModelUri, news: Partial<Pick<Ref, 'resolved' | 'refusedAt'>>): void {
    this.#note(scope, { ...this.get(scope, uri), ...news }, this.#order(scope, uri));
  }

  /** Whether readers see what is published here: another process on this directory may have switched the link. */
  async isShown(scope: Scope, uri: ModelUri): Promise<boolean> {
    return await this.#files.isShown(scope, this.get(scope, uri));
  }

  /** Forgets a snapshot that is not on the disk any more, for what another process published since, if anything. */
  async unpublish(scope: Scope, uri: ModelUri): Promise<void> {
    const gone = this.get(scope, uri).published;
    // A record that cannot be read stays as it is: taking it back on the disk reads it again first.
    const found = await this.#files.readWhole(scope, uri).catch(() => null);
    const ref = this.get(scope, uri);
    if (ref.published !== gone) return;
    if (found === null) return void this.#withdraw(scope, ref)().catch(this.#onWriteError);
    const { published, confirmedAt } = found;
    this.#note(scope, { ...ref, published, confirmedAt }, this.#order(scope, uri));
  }

  /** Takes up what the disk has of a ref that gives nothing: it may have failed, or another process published it since. */
  async recall(scope: Scope, uri: ModelUri): Promise<void> {
    await this.#adoptNewer(scope, uri);
  }

  /**
   * Forgets the ref altogether; its snapshots are nobody's then.
   * @param path of its record, from the layout's root: another process may have left it among those of this registry
   */
  async forget(scope: Scope, uri: ModelUri, path: string): Promise<void> {
    await this.#turns.take(keyOf(scope, uri), async () => {
      this.#table.delete(scope, uri);
      await this.#files.remove(path);
    });
  }

  /** The refs that give one of these snapshots. */
  givers(snapshots: readonly string[]): readonly Entry[] {
    return this.#table.all.filter(({ ref }) => snapshots.includes(ref.published?.snapshot ?? ''));
  }

  /** Gives none of these snapshots from now on. Returns the refs that did, and what writes that down. */
  withdraw(snapshots: readonly string[]): Withdrawal {
    this.withdrawn.add(snapshots);
    const given = this.givers(this.withdrawn.all);
    const saves = given.map(({ scope, ref }) => this.#withdraw(scope, ref));
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

  /** Saves what the disk did not take so far. */
  saveAgain(): void {
    this.#saves.again();
  }

  /** Resolves when everything noted so far has been saved, or could not be. */
  async flush(): Promise<void> {
    this.#saves.hurry();
    await this.#turns.all();
  }

  #order(scope: Scope, uri: ModelUri): number {
    return this.#table.get(scope, uri).order;
  }

  #note(scope: Scope, ref: Ref, order: number): void {
    this.#table.set({ scope, ref, order });
    if (this.#readOnly === null) this.#saves.schedule(scope, ref.uri);
  }

  /** What could never be had is no record, unless it takes one back: anybody may ask for anything. */
  async #save(scope: Scope, uri: ModelUri, isTakenBack = false): Promise<void> {
    await this.#adoptNewer(scope, uri);
    const ref = this.get(scope, uri);
    if (isTakenBack || !isEmpty(ref)) await this.#files.write(scope, ref);
  }

  /** In memory at once; what it returns does so on the disk, but for a link or a record that names another by now. */
  #withdraw(scope: Scope, before: Ref): () => Promise<void> {
    const { uri } = before;
    const ref = { ...before, published: null, confirmedAt: null };
    this.#table.set({ scope, ref, order: this.#order(scope, uri) });
    return async () => {
      if (this.#readOnly !== null) return;
      await this.#turns.take(keyOf(scope, uri), async () => {
        await this.#save(scope, uri, true);
        if (this.get(scope, uri).published === null) await this.#files.hide(scope, before);
      });
    };
  }

  /** What another process on this directory published since is not taken back by what we have to note. */
  async #adoptNewer(scope: Scope, uri: ModelUri): Promise<void> {
    const found = await this.#files.readWhole(scope, uri);
    const ours = this.get(scope, uri);
    const isNews = (found?.confirmedAt ?? 0) > (ours.confirmedAt ?? 0);
    if (found === null || !isNews || (ours.published !== null && this.#files.isOurs(found))) return;
    if (this.withdrawn.has(found.published?.snapshot)) return;
    const { published, previous, confirmedAt } = found;
    const ref = { ...ours, published, previous, confirmedAt };
    this.#table.set({ scope, ref, order: this.#order(scope, uri) });
  }
}
