// For `NODE_OPTIONS=--import=…`: once the file HANG_DISK_FLAG is there, whatever is done below HANG_DISK_DIR hangs on one of
// libuv's threads, as on a file system whose server is gone. When the file is removed, all of it goes on.
import callbacks from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const {
  HANG_DISK_DIR: dir = '/nowhere',
  HANG_DISK_FLAG: flag = '/nowhere',
  HANG_DISK_FIFO: fifo = '',
} = process.env;

const { open } = fs;

/** A pipe without a writer is opened when the first comes, or never. */
async function hang() {
  if (!callbacks.existsSync(flag)) return;
  const handle = await open(fifo, 'r');
  await handle.close();
}

function isBelow(path) {
  return typeof path === 'string' && path.startsWith(dir);
}

for (const name of Object.keys(fs)) {
  const original = fs[name];
  if (typeof original !== 'function') continue;
  fs[name] = async function hanging(...args) {
    if (args.some(isBelow)) await hang();
    return await original.apply(this, args);
  };
}

for (const name of ['open', 'stat', 'lstat', 'readFile']) {
  const original = callbacks[name];
  callbacks[name] = (path, ...rest) => {
    const go = () => original(path, ...rest);
    if (isBelow(path)) hang().then(go, go);
    else go();
  };
}

const probe = await open('/dev/null');
const methods = Object.getPrototypeOf(probe);
await probe.close();
for (const name of [
  'write',
  'writeFile',
  'read',
  'readFile',
  'sync',
  'datasync',
  'stat',
  'chmod',
  'truncate',
]) {
  const original = methods[name];
  methods[name] = async function hanging(...args) {
    // Files outside are open in this process only for moments.
    await hang();
    return await original.apply(this, args);
  };
}
syncBuiltinESMExports();
