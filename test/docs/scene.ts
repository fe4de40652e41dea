import type { Document } from './markdown.ts';
import type { Stand } from './stand.ts';

/** Who answers at port 5080. */
export type Server =
  | { readonly kind: 'stand' }
  | {
      readonly kind: 'started';
      readonly env: Readonly<Record<string, string>>;
      /** The container's, by which others of its network reach it; null where there is none. */
      readonly name: string | null;
    }
  /** Nobody on this machine: a chart was installed. */
  | { readonly kind: 'cluster' };

/** What the commands of a section have done so far. Its blocks are one shell. */
export interface Session {
  readonly env: Readonly<Record<string, string>>;
  readonly server: Server;
}

/** Where a command stands. */
export interface Scene extends Session {
  readonly stand: Stand;
  readonly document: Document;
}
