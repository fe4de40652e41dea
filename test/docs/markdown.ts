import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');

/** What is between two fences. */
export interface Block {
  readonly language: string;
  readonly text: string;
  /** Of its first line. */
  readonly line: number;
}

export interface Document {
  /** From the repository's root. */
  readonly path: string;
  readonly blocks: readonly Block[];
  /** What is outside of fences, line by line; those inside are empty, so that a line keeps its number. */
  readonly prose: readonly string[];
  readonly anchors: ReadonlySet<string>;
}

const NOT_OURS = new Set(['node_modules', '.cache', '.git', 'dist']);
const FENCE = /^(`{3,}|~{3,})\s*(.*)$/;

/** Every Markdown file of the repository. */
export async function documents(): Promise<readonly Document[]> {
  const paths = globSync('**/*.md', { cwd: ROOT, exclude: path => NOT_OURS.has(basename(path)) });
  return Promise.all(
    paths.toSorted().map(async path => readDocument(path, await readFile(join(ROOT, path), 'utf8'))),
  );
}

/** @throws Error where a fence is not closed */
export function readDocument(path: string, text: string): Document {
  const lines = text.split('\n');
  const blocks: Block[] = [];
  const prose = lines.map(() => '');
  for (let at = 0; at < lines.length; at++) {
    const [, fence, language = ''] = FENCE.exec(lines[at] ?? '') ?? [];
    if (fence === undefined) {
      prose[at] = lines[at] ?? '';
      continue;
    }
    const end = lines.indexOf(fence, at + 1);
    if (end < 0) throw new Error(`${path}:${at + 1}: the fence has no end.`);
    blocks.push({ language, text: lines.slice(at + 1, end).join('\n'), line: at + 2 });
    at = end;
  }
  return { path, blocks, prose, anchors: anchorsOf(prose) };
}

/** What stands between backticks. */
export function codeOf(line: string): readonly string[] {
  return [...line.matchAll(/(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)/g)].map(([, , text = '']) => text.trim());
}

/** The targets of links. */
export function linksOf(line: string): readonly string[] {
  const withoutCode = line.replaceAll(/(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)/g, 'code');
  return [...withoutCode.matchAll(/\]\(([^)\s]*)\)|<(https?:[^>]*)>/g)].map(
    ([, target, address]) => target ?? address ?? '',
  );
}

/** As GitHub makes them of headings. */
function anchorsOf(prose: readonly string[]): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const line of prose) {
    const [, heading] = /^#{1,6} +(.*?)\s*#*$/.exec(line) ?? [];
    if (heading === undefined) continue;
    const slug = heading
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-');
    const same = [...anchors].filter(known => known === slug || known.startsWith(`${slug}-`)).length;
    anchors.add(anchors.has(slug) ? `${slug}-${same}` : slug);
  }
  return anchors;
}
