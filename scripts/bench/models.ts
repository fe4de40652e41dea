import { join } from 'node:path';
import type { Artifacts, Bench, RegisteredModel } from './upstream.ts';
import { assertSpace, fresh, randomFile } from './work.ts';

export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

/** The name of the large file of a model that has one. */
export const LARGE = 'large.bin';

export function modelOf(
  name: string,
  more: Iterable<[string, Buffer | { readonly file: string }]> = [],
): Artifacts {
  return new Map<string, Buffer | { readonly file: string }>([
    ['MLmodel', Buffer.from(`flavors: {}\nlabel: ${name}\n`)],
    ...more,
  ]);
}

/** A model with one file of so many random bytes. */
export async function registerLarge(
  { upstream, dir }: Bench,
  name: string,
  size: number,
): Promise<RegisteredModel> {
  // The file, the server's copy of it, the sidecar's and curl's.
  await assertSpace(dir, 4 * size);
  const file = join(await fresh(dir, 'large'), name);
  await randomFile(file, size);
  const registered = await upstream.register(name, modelOf(name, [[LARGE, { file }]]));
  await fresh(dir, 'large');
  return registered;
}
