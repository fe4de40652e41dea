import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Advice, ROOT, run, step } from './child.mjs';

const DIR = join(ROOT, '.cache', 'nginx');
/** Starts it, wherever it is. */
const NGINX = join(DIR, 'nginx');
/** A change of what is laid out here needs another one. */
const STAMP = `the Debian package, or one that is installed; ${process.arch}\n`;

/**
 * Makes `.cache/nginx/nginx` start nginx, unless it does: the one that is installed, else Debian's, unpacked here, which needs no root.
 * Its libraries are those of curl and Python, which are there.
 */
export async function ensureNginx() {
  const stampFile = join(DIR, '.stamp');
  const isWhole = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === STAMP;
  if (isWhole && (await starts(NGINX))) return;
  rmSync(DIR, { recursive: true, force: true });
  mkdirSync(DIR, { recursive: true });
  if (await starts('nginx')) writeStarter('nginx');
  else {
    await unpack();
    writeStarter('"$(dirname "$0")"/usr/sbin/nginx');
  }
  if (!(await starts(NGINX))) {
    throw new Advice(
      `nginx was unpacked and does not start ("${NGINX} -v" says why): install it ("apt-get install nginx"), then run the same command again.`,
    );
  }
  writeFileSync(stampFile, STAMP);
}

async function starts(command) {
  return (await run(command, ['-v'])).code === 0;
}

function writeStarter(command) {
  writeFileSync(NGINX, `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 });
}

async function unpack() {
  const { code } = await run('apt-cache', ['show', 'nginx']);
  if (code === 127) {
    throw new Advice(
      'nginx is not there, and neither is apt to fetch it: install it (macOS: "brew install nginx"), then run the same command again.',
    );
  }
  if (code !== 0) {
    throw new Advice(
      'apt knows no package nginx: run "apt-get update" as root, then the same command again.',
    );
  }
  await step(
    "Fetching Debian's nginx",
    'env',
    ['-C', DIR, 'apt-get', 'download', 'nginx'],
    'apt-get could not download nginx: check that its mirror is reachable, run "apt-get update" as root, then the same command again.',
  );
  const packages = readdirSync(DIR).filter(name => name.endsWith('.deb'));
  for (const name of packages) {
    const advice = `dpkg could not unpack ${name}: see above.`;
    await step(`Unpacking ${name}`, 'dpkg', ['-x', join(DIR, name), DIR], advice);
  }
}
