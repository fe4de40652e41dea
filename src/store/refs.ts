import type { SidecarError } from '../domain/errors.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { BackgroundSaves } from './background-saves.ts';
import type { Layout } from './layout.ts';
import { RefFiles } from './ref-files.ts';
import type { Published, Ref } from './ref-record.ts';
import type { Usage } from './usage.ts';

/** A ref as it is kept in memory; `order` is of the registry's answer that it was published or confirmed by. */
interface Entry {
  readonly scope: Scope;
  readonly ref: Ref;
  readonly order: number;
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
  readonly #entries = new Map<string, Entry>();
  readonly #writing = new Map<string, Promise<void>>();
  readonly #unsaved = new Set<string>();
  readonly #saves = new BackgroundSaves();

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
   * @throws Vanished where its snapshot was removed meanwhile; what was published stays
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
      const before = this.get(scope, uri);
      const replaced = await this.#replacedBy(published, scope, before);
      const previous = replaced ?? before.previous;
      await this.#files.show(
        scope,
        { ...before, published, previous, confirmedAt: now, refusedAt: null },
        before,
      );
      const meanwhile = this.get(scope, uri);
      // A newer answer confirmed what was published before.
      if (order < this.#order(key)) return await this.#files.show(scope, meanwhile, before);
      const refusedAt = meanwhile.refusedAt === before.refusedAt ? null : meanwhile.refusedAt;
      const ref = { ...meanwhile, published, previous, confirmedAt: now, refusedAt };
      this.#entries.set(key, { scope, ref, order });
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
    return await this.#files.isShown(scope, this.get(scope, uri));
  }

  /** Forgets a snapshot that is not on the disk any more, for what another process published since, if anything. */
  async unpublish(scope: Scope, uri: ModelUri): Promise<void> {
    const gone = this.get(scope, uri).published;
    const found = await this.#files.read(scope, uri);
    const isThere = await this.#files.isThere(found?.published ?? null);
    const ref = this.get(scope, uri);
    if (ref.published !== gone) return;
    const { published, confirmedAt } = found !== null && isThere ? found : UNKNOWN;
    this.#note(scope, { ...ref, published, confirmedAt }, this.#order(keyOf(scope, uri)));
  }

  /**
   * Forgets the ref altogether; its snapshots are nobody's then.
   * @param path of its record, from the layout's root: another process may have left it among those of this registry
   */
  async forget(scope: Scope, uri: ModelUri, path: string): Promise<void> {
    await this.#exclusively(keyOf(scope, uri), async key => {
      this.#entries.delete(key);
      await this.#files.remove(uri, path);
    });
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
        await this.#files.write(scope, this.get(scope, uri));
      });
    }).catch(this.#onWriteError);
  }

  /** What another process on this directory published since is not taken back by what we have to note. */
  async #adoptNewer(scope: Scope, uri: ModelUri): Promise<void> {
    const found = await this.#files.read(scope, uri);
    const isThere = await this.#files.isThere(found?.published ?? null);
    const ours = this.get(scope, uri);
    if (found === null || !isThere || (found.confirmedAt ?? 0) <= (ours.confirmedAt ?? 0)) return;
    const { published, previous, confirmedAt } = found;
    const ref = { ...ours, published, previous, confirmedAt };
    this.#entries.set(keyOf(scope, uri), { scope, ref, order: this.#order(keyOf(scope, uri)) });
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

const UNKNOWN = {
  resolved: null,
  published: null,
  previous: null,
  confirmedAt: null,
  refusedAt: null,
} as const;

function keyOf(scope: Scope, uri: ModelUri): string {
  return `${scope.id}\n${formatModelUri(uri)}`;
}
