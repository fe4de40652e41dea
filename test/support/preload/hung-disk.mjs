// As long as DISK_FLAG is there, whatever touches a path below SIDECAR_CACHE_DIR hangs as on a dead NFS mount: in a
// thread of libuv, which opens a FIFO that nobody writes to. It goes on once somebody does.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const base = process.env['SIDECAR_CACHE_DIR'];
const flag = process.env['DISK_FLAG'];
const fifo = process.env['DISK_FIFO'];
const { open } = fs.promises;
const handles = new WeakSet();
let isHandlePatched = false;

function isBelow(path) {
  return typeof path === 'string' && path.startsWith(base);
}

async function hangIfTold() {
  if (!fs.existsSync(flag)) return;
  const blocked = await open(fifo, 'r');
  await blocked.close();
}

function patchHandle(handle) {
  handles.add(handle);
  if (isHandlePatched) return;
  isHandlePatched = true;
  const prototype = Object.getPrototypeOf(handle);
  for (const name of [
    'read',
    'readFile',
    'write',
    'writev',
    'writeFile',
    'sync',
    'datasync',
    'chmod',
    'stat',
    'truncate',
  ]) {
    const original = prototype[name];
    prototype[name] = async function (...args) {
      if (handles.has(this)) await hangIfTold();
      return await original.apply(this, args);
    };
  }
}

for (const [name, original] of Object.entries(fs.promises)) {
  if (typeof original !== 'function') continue;
  fs.promises[name] = async (...args) => {
    if (!args.slice(0, 2).some(isBelow)) return await original(...args);
    await hangIfTold();
    const result = await original(...args);
    if (name === 'open') patchHandle(result);
    return result;
  };
}

// What streams are opened by, and what is asked without a handle.
for (const name of ['open', 'stat', 'lstat', 'readFile']) {
  const original = fs[name];
  fs[name] = (path, ...rest) => {
    const go = () => original(path, ...rest);
    if (isBelow(path)) hangIfTold().then(go, go);
    else go();
  };
}
syncBuiltinESMExports();
