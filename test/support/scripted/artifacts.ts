import { createHash } from 'node:crypto';
import { type Answer, json, mlflowError } from './answers.ts';
import type { ListedEntry, ScriptedModels } from './models.ts';

/** One level of a directory; what is missing, empty or a file lists as an empty object. */
export function listingAnswer(models: ScriptedModels, path: string): Answer {
  const found = models.tree(path);
  if (found === undefined) return json({});
  const scripted = found.tree.listing[found.rest];
  if (scripted instanceof Buffer)
    return { status: 200, headers: { 'content-type': 'application/json' }, body: scripted };
  const entries = scripted ?? oneLevel(found.tree.files, found.rest);
  return json(entries.length === 0 ? {} : { files: entries });
}

function oneLevel(files: ReadonlyMap<string, Buffer>, dir: string): readonly ListedEntry[] {
  const prefix = dir === '' ? '' : `${dir}/`;
  const entries = new Map<string, ListedEntry>();
  for (const [path, content] of files) {
    if (!path.startsWith(prefix)) continue;
    const [name = '', ...below] = path.slice(prefix.length).split('/');
    const isDir = below.length > 0;
    entries.set(
      name,
      isDir ? { path: name, is_dir: true } : { path: name, is_dir: false, file_size: content.length },
    );
  }
  return [...entries.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

const etags = new WeakMap<Buffer, string>();

/** Of another content another one. */
function etagOf(content: Buffer): string {
  const etag = etags.get(content) ?? createHash('md5').update(content).digest('hex');
  etags.set(content, etag);
  return etag;
}

/** The bytes of one file, whole or a range, with the headers that MLflow sends. */
export function fileAnswer(models: ScriptedModels, path: string, range: string, ifRange: string): Answer {
  const found = models.tree(path);
  const content = found?.tree.files.get(found.rest);
  if (content === undefined)
    return mlflowError(404, 'RESOURCE_DOES_NOT_EXIST', `No such artifact: '${path}'`);
  const etag = `"${etagOf(content)}"`;
  const headers = {
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    'last-modified': 'Mon, 23 Nov 2026 02:15:22 GMT',
    etag,
  };
  const asked = /^bytes=(\d+)-(\d*)$/.exec(range);
  if (asked === null || (ifRange !== '' && ifRange !== etag)) return { status: 200, headers, body: content };
  const from = Number(asked[1]);
  const to = asked[2] === '' ? content.length - 1 : Math.min(Number(asked[2]), content.length - 1);
  const partial = { ...headers, 'content-range': `bytes ${from}-${to}/${content.length}` };
  return { status: 206, headers: partial, body: content.subarray(from, to + 1) };
}
