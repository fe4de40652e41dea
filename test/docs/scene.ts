import type { Document } from './markdown.ts';
import type { Stand } from './stand.ts';

/** Where a command stands. */
export interface Scene {
  readonly stand: Stand;
  readonly document: Document;
  /** What the block has exported before it. */
  readonly env: Readonly<Record<string, string>>;
}
