import type { Shape } from './content.ts';

/** How much each run does: seconds of it with every `npm test`, a minute or two with `npm run chaos`, the most with a run's name. */
interface Sizes {
  /** Kills at random moments of a reload, in so many caches at once. */
  readonly random: { readonly kills: number; readonly lanes: number; readonly shape: Shape };
  /** Kills at each boundary. */
  readonly boundaryKills: number;
  /** Kills of one of two processes that share a cache. */
  readonly sharedKills: number;
  /** With 4 every fourth of a publish's file operations fails, with 1 each of them. */
  readonly failEvery: number;
  /** As `failEvery`, where most of the operations are writes and one is like the other. */
  readonly failLargeEvery: number;
  /** Whether the process starts anew after each kind of operation that failed, and not only after each error. */
  readonly restartEach: boolean;
  /** Of ten times the sustainable load. */
  readonly overloadSeconds: number;
  readonly publishes: number;
  readonly readers: number;
  /** Of two versions that clients load through the proxy meanwhile. */
  readonly swaps: number;
  /** Of MLflow's long answers, at once. */
  readonly longAnswers: number;
  /** Versions that are loaded once each, by number, under a quota of three and a half of them. */
  readonly numbered: { readonly versions: number; readonly bytes: number };
  /** Callers' tokens, each a new one; paths of a run of which nothing can be had. */
  readonly rotating: { readonly tokens: number; readonly paths: number };
  /** Of logging, registering, reloading and loading, on each MLflow. */
  readonly interleavings: number;
  /** What no answer and no tree may hold the event loop up for; more where the machine is shared with other tests. */
  readonly stallMs: number;
  /** Files of a tree that is 62 directories deep. */
  readonly deepFiles: number;
  /** That MLflow refuses, fails at or does not answer. */
  readonly writes: number;
}

const SHORT: Sizes = {
  random: { kills: 12, lanes: 1, shape: { files: 300, bytes: 10 * 1024 } },
  boundaryKills: 3,
  sharedKills: 5,
  failEvery: 4,
  failLargeEvery: 5,
  restartEach: false,
  overloadSeconds: 8,
  publishes: 100,
  readers: 20,
  swaps: 120,
  longAnswers: 3,
  numbered: { versions: 12, bytes: 1024 * 1024 },
  rotating: { tokens: 40, paths: 100 },
  interleavings: 4,
  stallMs: 400,
  deepFiles: 3_000,
  writes: 80,
};
const LONG: Sizes = {
  random: { kills: 200, lanes: 2, shape: { files: 100, bytes: 10 * 1024 } },
  boundaryKills: 50,
  sharedKills: 50,
  failEvery: 1,
  failLargeEvery: 1,
  restartEach: true,
  overloadSeconds: 600,
  publishes: 10_000,
  readers: 100,
  swaps: 2_000,
  longAnswers: 16,
  numbered: { versions: 200, bytes: 10 * 1024 * 1024 },
  rotating: { tokens: 1_000, paths: 10_000 },
  interleavings: 200,
  stallMs: 100,
  deepFiles: 49_800,
  writes: 1_000,
};

/** All runs together end within a quarter of an hour on two cores. */
const MIXED: Sizes = {
  ...LONG,
  random: { ...LONG.random, kills: 100 },
  boundaryKills: 10,
  sharedKills: 20,
  failEvery: 2,
  failLargeEvery: 5,
  restartEach: false,
  overloadSeconds: 60,
  publishes: 1_000,
  swaps: 400,
  numbered: { versions: 40, bytes: 10 * 1024 * 1024 },
  rotating: { tokens: 600, paths: 2_000 },
  interleavings: 40,
  deepFiles: 10_000,
};

function sizes(): Sizes {
  const chaos = process.env['CHAOS'];
  if (chaos === 'long') return LONG;
  return chaos === 'mixed' ? MIXED : SHORT;
}

export const SIZES = sizes();
