import type { Slots } from '../policy/fair-limit.ts';
import type { FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { assertComplete } from './complete.ts';
import { Changed, isWanted } from './range.ts';
import type { OpenFile, WantedRange } from './source.ts';
import { pastBreaker } from './trial.ts';
import type { ListedFile } from './walk.ts';

const MIB = 1024 * 1024;
/** From here on what has come is kept for the next try; less is fetched again as quickly. */
export const RESUMABLE_BYTES = 8 * MIB;

/** How a file is taken apart. In bytes. */
export interface PartLimits {
  /** Larger files are asked for in parts. */
  readonly above: number;
  readonly size: number;
  /** Of one file at once. */
  readonly inFlight: number;
}

export const PARTS: PartLimits = { above: 256 * MIB, size: 64 * MIB, inFlight: 4 };

/** With who is told of each chunk. */
type Watched = OpenFile & { readonly came: (bytes: number) => void };

interface Stretch {
  at: number;
  readonly end: number;
}

/** A file in the store that is on its way in, perhaps with what an earlier try left. */
export interface Growing {
  readonly file: {
    readonly bytes: number;
    write(body: AsyncIterable<Uint8Array>, stretch: Stretch): Promise<void>;
  };
  /** The strong ETag of what is there; null where nothing can be continued. */
  readonly etag: string | null;
  restart(etag: string | null): Promise<void>;
}

/** One file of a known size, and how it is fetched. */
export interface LargeFile {
  readonly listed: ListedFile;
  readonly size: number;
  readonly growing: Growing;
  readonly parts: PartLimits;
  readonly slots: Slots;
  readonly floor: ProgressFloor;
  readonly limits: FloorLimits;
  /** Told of each chunk: what is there is of the content that comes now. */
  readonly came: () => void;
  /** Does it, and tries again what broke on the way. */
  readonly retry: (call: Call, work: (call: Call) => Promise<void>) => Promise<void>;
}

/**
 * Fetches what of the file is not there yet: in parts where that is worth it and safe, else in one go. Two contents are never
 * put together: whatever says that the file is another one by now throws away what is there.
 * @throws Changed where that happened on the way; the next try starts from nothing
 */
export async function fetchLarge(file: LargeFile, call: Call): Promise<void> {
  try {
    await fetchRest(file, call);
  } catch (error) {
    if (error instanceof Changed) await file.growing.restart(null);
    throw error;
  }
}

async function fetchRest(file: LargeFile, call: Call): Promise<void> {
  const stop = new AbortController();
  const under = { ...call, signal: AbortSignal.any([call.signal, stop.signal]) };
  const { promise: rest, resolve: announce } = Promise.withResolvers<Iterable<Stretch>>();
  const work = async (queue: Iterable<Stretch>) => {
    for (const stretch of queue) {
      await file.retry(under, ofTry => fetchPart(file, stretch, ofTry));
    }
  };
  const lead = async () => {
    await fetchFirst(file, under, announce);
    await work(await rest);
  };
  const follow = async () => await work(await rest);
  const isAlone = file.size <= file.parts.above;
  const workers = [lead, ...Array.from({ length: isAlone ? 0 : file.parts.inFlight - 1 }, () => follow)];
  // All have ended when this has: nobody writes into a file that is emptied or closed.
  await Promise.all(
    workers.map(worker =>
      worker().catch(error => {
        stop.abort(error);
        announce([]);
      }),
    ),
  );
  under.signal.throwIfAborted();
}

/** The first request says whether the file can be had in parts; `announce` is told which are left, once it is known. */
async function fetchFirst(
  file: LargeFile,
  call: Call,
  announce: (rest: Iterable<Stretch>) => void,
): Promise<void> {
  let part: Stretch | null = null;
  await file.retry(call, async ofTry => {
    if (part !== null) return await fetchPart(file, part, ofTry);
    await begin(file, ofTry, stretch => {
      part = stretch;
      announce(stretches(stretch.end, file.size, file.parts.size));
    });
  });
  announce([]);
}

async function begin(file: LargeFile, call: Call, onPart: (first: Stretch) => void): Promise<void> {
  const wanted = firstWanted(file);
  if (wanted !== undefined && wanted.from === file.size) return;
  await opened(file, call, wanted, async found => {
    if (wanted === undefined || found.part === null) return await writeWhole(file, found);
    if (isWanted(found, wanted, file.size)) {
      if (wanted.etag === null) await file.growing.restart(found.etag);
      const first = { at: wanted.from, end: wanted.to + 1 };
      onPart(first);
      return await write(file, found, first);
    }
    if (wanted.etag !== null) throw new Changed(file.listed.path);
    found.close();
    await openedInSlot(file, call, undefined, whole => writeWhole(file, { ...whole, came: found.came }));
  });
}

/** Undefined for the whole file. */
function firstWanted({ growing, parts, size }: LargeFile): WantedRange | undefined {
  const isInParts = size > parts.above;
  const from = growing.etag === null ? 0 : growing.file.bytes;
  if (from === 0 && !isInParts) return undefined;
  const to = isInParts ? Math.min(size, from + parts.size) - 1 : size - 1;
  return { from, to, etag: from === 0 ? null : growing.etag };
}

async function fetchPart(file: LargeFile, stretch: Stretch, call: Call): Promise<void> {
  if (stretch.at === stretch.end) return;
  const wanted = { from: stretch.at, to: stretch.end - 1, etag: file.growing.etag };
  await opened(file, call, wanted, async found => {
    if (wanted.etag === null || !isWanted(found, wanted, file.size)) throw new Changed(file.listed.path);
    await write(file, found, stretch);
  });
}

async function writeWhole(file: LargeFile, found: Watched): Promise<void> {
  assertComplete(file.listed, found);
  await file.growing.restart(found.etag);
  await write(file, found, { at: 0, end: file.size });
}

async function write(
  { growing, floor }: LargeFile,
  { body, came }: Watched,
  stretch: Stretch,
): Promise<void> {
  await growing.file.write(floor.watch(body, came), stretch);
}

async function opened(
  file: LargeFile,
  call: Call,
  wanted: WantedRange | undefined,
  use: (found: Watched) => Promise<void>,
): Promise<void> {
  const { listed, limits } = file;
  await pastBreaker(file.slots, listed.source, limits, call, (signal, came) =>
    openedInSlot(file, { ...call, signal }, wanted, found =>
      use({
        ...found,
        came: bytes => {
          came(bytes);
          file.came();
        },
      }),
    ),
  );
}

async function openedInSlot(
  { listed }: LargeFile,
  call: Call,
  wanted: WantedRange | undefined,
  use: (found: OpenFile) => Promise<void>,
): Promise<void> {
  const found = await listed.source.open(listed.path, call, wanted);
  try {
    await use(found);
  } finally {
    found.close();
  }
}

function* stretches(from: number, size: number, length: number): Generator<Stretch> {
  for (let at = from; at < size; at += length) yield { at, end: Math.min(size, at + length) };
}
