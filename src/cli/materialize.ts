import { chmod, constants, copyFile, link, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../domain/errors.ts';
import { CommandFailure } from './failure.ts';
import {
  filesOf,
  inspect,
  MARKER,
  type Marker,
  type Model,
  markerOf,
  readMarker,
  writeMarker,
} from './marker.ts';
import {
  besideOf,
  isOurs,
  LOST_AND_FOUND,
  makeAside,
  makeDirectory,
  makeInside,
  NOT_BESIDE,
  type Target,
} from './target.ts';
import { sharedEntries } from './tree.ts';

/** Comes last: a model is whole as soon as it is there. */
const LAST = 'MLmodel';

/** What is to be done to DIR. */
interface Plan {
  readonly model: Model;
  readonly marker: Marker;
  readonly target: Target;
  /** Whether DIR holds what an earlier fetch put there. */
  readonly replaces: boolean;
  /** What DIR has of the model already, at its top. */
  readonly there: ReadonlySet<string>;
}

/**
 * Puts a model into DIR, in place of what an earlier fetch of its URI put there: after a crash DIR is absent, as it was, or
 * whole, or, on a mount point, without MLmodel and finished by the next fetch. Files 0444, directories 0755, all of it synced.
 * @throws CommandFailure where DIR holds anything else, which is never overwritten
 */
export async function materialize(
  model: Model,
  target: Target,
  signal: AbortSignal,
): Promise<'put' | 'up_to_date'> {
  const plan = await planFor(model, target, signal);
  if (plan === null) return 'up_to_date';
  if (!(await putBeside(plan, signal))) await putInside(plan, signal);
  return 'put';
}

/** Null where there is nothing to do. */
async function planFor(model: Model, target: Target, signal: AbortSignal): Promise<Plan | null> {
  const earlier = target.exists ? await readMarker(target.dir) : null;
  const isCurrent = earlier === null ? false : await isWholeOrPartOf(earlier, model, target);
  const there =
    target.exists && earlier === null
      ? await sharedEntries(model.snapshot, target.dir, isOurs)
      : new Set<string>();
  if (there === null) throw refusal(target, 'something else');
  if (earlier === null && (await readdir(model.snapshot)).every(name => there.has(name))) return null;
  const marker = await markerOf(model, signal);
  if (isCurrent && earlier?.version === marker.version && earlier.digest === marker.digest) return null;
  return { model, marker, target, there, replaces: earlier !== null };
}

/** Whether it is whole; what is not of an earlier fetch of this URI is refused. */
async function isWholeOrPartOf(earlier: Marker, { uri }: Model, target: Target): Promise<boolean> {
  if (earlier.model_uri !== uri) throw refusal(target, `${earlier.model_uri} of an earlier fetch`);
  const { foreign, isWhole } = await inspect(target.dir, earlier);
  if (foreign !== null) throw refusal(target, `something else (${foreign})`);
  return isWhole;
}

function refusal({ dir }: Target, what: string): CommandFailure {
  return new CommandFailure(
    `${dir} holds ${what}, and is never overwritten: empty it, or name another directory.`,
  );
}

/** False where DIR is a mount point, which cannot be renamed, nor anything onto it. */
async function putBeside(plan: Plan, signal: AbortSignal): Promise<boolean> {
  const { target, replaces, there } = plan;
  if (there.size > 0 || (target.exists && (await readdir(target.dir)).includes(LOST_AND_FOUND))) return false;
  const aside = await makeAside(target);
  try {
    if (dirname(aside) === target.dir) return false;
    await build(plan, aside, signal);
    if (replaces) await swap(aside, target);
    else await rename(aside, target.dir);
    await sync(dirname(target.dir));
    return true;
  } catch (error) {
    if (!target.exists || !NOT_BESIDE.has(errnoOf(error))) throw error;
    return false;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

async function swap(aside: string, target: Target): Promise<void> {
  const old = besideOf(target);
  await rename(target.dir, old);
  try {
    await rename(aside, target.dir);
  } catch (error) {
    await rename(old, target.dir);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

/** Entry by entry. */
async function putInside(plan: Plan, signal: AbortSignal): Promise<void> {
  const { target, replaces, there } = plan;
  const [aside, old] = [await makeInside(target), await makeInside(target)];
  try {
    await build(plan, aside, signal);
    if (replaces) await moveOut(target.dir, old);
    const missing = (await readdir(aside)).filter(name => !there.has(name));
    for (const name of missing.toSorted((a, b) => rankOf(a) - rankOf(b))) {
      await rename(join(aside, name), join(target.dir, name));
    }
    await sync(target.dir);
  } finally {
    for (const path of [aside, old]) await rm(path, { recursive: true, force: true });
  }
}

/** The marker stays until the new one takes its place: at every moment one of them knows all that is there. */
async function moveOut(dir: string, old: string): Promise<void> {
  const names = (await readdir(dir)).filter(name => !isOurs(name) && name !== MARKER);
  for (const name of names.toSorted((a, b) => rankOf(b) - rankOf(a))) {
    await rename(join(dir, name), join(old, name));
  }
  await sync(dir);
}

/** The marker comes first, so that a fetch after a crash knows whose the rest is. */
function rankOf(name: string): number {
  if (name === MARKER) return 0;
  return name === LAST ? 2 : 1;
}

async function build({ model, marker }: Plan, into: string, signal: AbortSignal): Promise<void> {
  const directories = new Set([into]);
  for (const path of await filesOf(model.snapshot)) {
    signal.throwIfAborted();
    await ensureDirectory(into, dirname(path), directories);
    await place(join(model.snapshot, path), join(into, path), model.mayLink);
  }
  await writeMarker(into, marker);
  for (const directory of directories) await sync(directory);
}

async function ensureDirectory(root: string, below: string, made: Set<string>): Promise<void> {
  const path = join(root, below);
  if (made.has(path)) return;
  await ensureDirectory(root, dirname(below), made);
  await makeDirectory(path);
  made.add(path);
}

/** A link to a file of the store is synced and read-only already; whoever writes to it writes to the store. */
async function place(from: string, to: string, mayLink: boolean): Promise<void> {
  // Another file system, or one without links, or a file of another user: whatever it was, a copy tells.
  if (
    mayLink &&
    (await link(from, to).then(
      () => true,
      () => false,
    ))
  )
    return;
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  await chmod(to, 0o444);
  await sync(to);
}

async function sync(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}
