/**
 * Preloaded into a sidecar: kills it, or fails, at the n-th operation of a kind on its cache directory.
 * What to do stands in the file DISK_TROUBLE, which is looked at before every operation; counting begins with each new text.
 * `{ match, nth, act }`: the operations whose line (`kind path [-> path]`, relative to the cache) matches are counted, and at the n-th,
 * or at each where `nth` is null, `act` is done: `kill-before`, `kill-after`, `none`, `hang` (until there is another text), or the name
 * of the error that it fails with. Each counted line goes to DISK_TROUBLE.log.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { constants } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { getSystemErrorMessage } from 'node:util';

const { appendFileSync, readFileSync, writeFileSync } = fs;
const CONTROL = process.env.DISK_TROUBLE;
const CACHE = join(process.env.SIDECAR_CACHE_DIR, 'v1');
const ONE_PATH = [
  ...[
    'access',
    'appendFile',
    'chmod',
    'lstat',
    'mkdir',
    'open',
    'opendir',
    'readFile',
    'readdir',
    'readlink',
  ],
  ...['realpath', 'rm', 'rmdir', 'stat', 'statfs', 'truncate', 'unlink', 'utimes', 'writeFile'],
];
const TWO_PATHS = ['copyFile', 'link', 'rename', 'symlink'];
const OF_DESCRIPTOR = [
  'close',
  'fchmod',
  'fdatasync',
  'fstat',
  'fsync',
  'ftruncate',
  'read',
  'write',
  'writev',
];
const OF_HANDLE = [
  ...['appendFile', 'chmod', 'close', 'datasync', 'read', 'readFile', 'readv', 'stat', 'sync', 'truncate'],
  ...['utimes', 'write', 'writeFile', 'writev'],
];
/** One name for what is one act on the disk. */
const SAME = { fsync: 'sync', fdatasync: 'sync', datasync: 'sync', writev: 'write', fchmod: 'chmod' };

let text = '';
let control = null;
let counted = 0;

function refresh() {
  let found = '';
  try {
    found = readFileSync(CONTROL, 'utf8');
  } catch {
    // Nothing is asked for.
  }
  if (found === text) return;
  text = found;
  control = found === '' ? null : JSON.parse(found);
  counted = 0;
  if (control !== null) writeFileSync(`${CONTROL}.log`, '');
}

/** What is to be done at this operation; null where nothing is. */
function actAt(line) {
  refresh();
  if (control === null || !new RegExp(control.match).test(line)) return null;
  counted += 1;
  appendFileSync(`${CONTROL}.log`, `${line}\n`);
  const isMeant = control.nth === null || counted === control.nth;
  return isMeant && control.act !== 'none' ? control.act : null;
}

function lineOf(kind, path, to) {
  const name = SAME[kind] ?? kind;
  const rest = to === undefined ? '' : ` -> ${relative(CACHE, String(to))}`;
  return `${name} ${relative(CACHE, String(path))}${rest}`;
}

function isInside(path) {
  return (typeof path === 'string' || path instanceof URL) && String(path).startsWith(CACHE);
}

/** The operation's line, or null where it is not on the cache. A target of a symlink is no operand. */
function describe(kind, args) {
  if (kind === 'symlink') return isInside(args[1]) ? lineOf(kind, args[1]) : null;
  if (TWO_PATHS.includes(kind)) return isInside(args[1]) ? lineOf(kind, args[0], args[1]) : null;
  if (!isInside(args[0])) return null;
  return lineOf(kind === 'open' && isWriting(args[1]) ? 'create' : kind, args[0]);
}

function isWriting(flags) {
  return typeof flags === 'number' ? (flags & fs.constants.O_CREAT) !== 0 : /^[wa]/.test(flags ?? 'r');
}

async function untilOtherText(before) {
  for (; text === before; refresh()) await delay(20);
}

function die() {
  process.kill(process.pid, 'SIGKILL');
}

function failure(code, line) {
  const errno = -constants.errno[code];
  const error = new Error(`${code}: ${getSystemErrorMessage(errno)}, ${line}`);
  return Object.assign(error, { code, errno, syscall: line.split(' ')[0] });
}

/** A handle is closed also where closing fails: the system does so, too. */
async function around(line, call) {
  const act = line === null ? null : actAt(line);
  if (act === 'kill-before') die();
  if (act === 'hang') await untilOtherText(text);
  const isError = act !== null && act !== 'hang' && !act.startsWith('kill');
  if (isError && !line.startsWith('close ')) throw failure(act, line);
  try {
    const result = await call();
    if (isError) throw failure(act, line);
    return result;
  } finally {
    // Also where it failed by itself: what it would have made room for may not be there yet.
    if (act === 'kill-after') die();
  }
}

const pathOfHandle = new WeakMap();
const pathOfDescriptor = new Map();

function patchPromises() {
  for (const kind of [...ONE_PATH, ...TWO_PATHS]) {
    const original = fs.promises[kind];
    fs.promises[kind] = async (...args) => {
      const result = await around(describe(kind, args), () => original(...args));
      if (kind === 'open' && isInside(args[0])) pathOfHandle.set(result, args[0]);
      return result;
    };
  }
}

async function patchHandles() {
  const handle = await fs.promises.open('/dev/null');
  const prototype = Object.getPrototypeOf(handle);
  for (const kind of OF_HANDLE) {
    const original = prototype[kind];
    prototype[kind] = async function (...args) {
      const path = pathOfHandle.get(this);
      return await around(path === undefined ? null : lineOf(kind, path), () => original.apply(this, args));
    };
  }
  await handle.close();
}

/** Calls back when the work that makes the callback's arguments is over, one way or the other. */
async function finish(line, call, done, note) {
  try {
    const results = await around(line, call);
    note(results);
    process.nextTick(done, null, ...results);
  } catch (error) {
    process.nextTick(done, error);
  }
}

function patchCallbacks() {
  for (const kind of [...ONE_PATH, ...TWO_PATHS, ...OF_DESCRIPTOR]) {
    const original = fs[kind];
    const patched = (...args) => {
      const done = args.at(-1);
      const path = pathOfDescriptor.get(args[0]);
      const ofDescriptor = path === undefined ? null : lineOf(kind, path);
      const line = OF_DESCRIPTOR.includes(kind) ? ofDescriptor : describe(kind, args);
      if (line === null || typeof done !== 'function') return original(...args);
      if (kind === 'close') pathOfDescriptor.delete(args[0]);
      const call = () =>
        new Promise((resolve, reject) => {
          original(...args.slice(0, -1), (error, ...results) => (error ? reject(error) : resolve(results)));
        });
      void finish(line, call, done, results => {
        if (kind === 'open') pathOfDescriptor.set(results[0], args[0]);
      });
    };
    // What util.promisify() makes of it is told by a property.
    fs[kind] = Object.defineProperties(patched, Object.getOwnPropertyDescriptors(original));
  }
}

await patchHandles();
patchPromises();
patchCallbacks();
syncBuiltinESMExports();
