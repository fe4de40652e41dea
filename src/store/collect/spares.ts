import { relative } from 'node:path';
import type { Layout } from '../disk/layout.ts';
import { Partials } from '../intake/partials.ts';
import { Quarantine } from '../verify/quarantine.ts';
import type { SpareItem } from './content.ts';

/** What is kept though nobody reads it, what is missed least first. */
export async function readSpares(layout: Layout): Promise<readonly SpareItem[]> {
  const partials = await new Partials(layout, layout.tmp).list();
  const damaged = await new Quarantine(layout, layout.tmp).list();
  return [partials, damaged].flatMap(items =>
    items
      .toSorted((a, b) => a.changedAt - b.changedAt)
      .map(item => ({ ...item, path: relative(layout.root, item.path) })),
  );
}
