import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { documents, linksOf, ROOT, readDocument } from './markdown.ts';

/** Pages that stand for long, and belong to what is spoken of. */
const ELSEWHERE = [
  'https://keepachangelog.com/',
  'https://semver.org/',
  'https://airflow.apache.org/',
  'https://helm.sh/docs/',
  'https://kubernetes.io/docs/',
];
/** Of this machine, or names that examples give to servers. */
const OF_EXAMPLES =
  /^https?:\/\/(localhost|127\.0\.0\.1|0\.0\.0\.0|10\.0\.0\.1|mlflow|sidecar|mlflow-sidecar|host)(?![\w.-])/;

const all = await documents();
const byPath = new Map(all.map(document => [document.path, document]));

/** Why a link leads nowhere; null where it leads somewhere. */
function faultOf(from: string, link: string): string | null {
  if (/^[a-z]+:/i.test(link)) {
    return ELSEWHERE.some(start => `${link}/`.startsWith(start)) ? null : 'is not on the list of other sites';
  }
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? from : normalize(join(dirname(from), decodeURIComponent(path)));
  if (target.startsWith('..')) return 'leads out of the repository';
  if (!existsSync(join(ROOT, target))) return 'is not there';
  if (anchor === undefined) return null;
  const document = byPath.get(target);
  if (document === undefined) return 'has an anchor, and is no Markdown';
  return document.anchors.has(anchor) ? null : 'has no such heading';
}

test('every link leads to a file of the repository, an anchor to a heading, or to one of a few other sites', () => {
  const links = all.flatMap(({ path, prose }) =>
    prose.flatMap((line, at) => linksOf(line).map(link => ({ path, link, at: at + 1 }))),
  );
  expect(links.length).toBeGreaterThan(80);
  const faults = links.flatMap(({ path, link, at }) => {
    const fault = faultOf(path, link);
    return fault === null ? [] : `${path}:${at}: ${link} ${fault}`;
  });
  expect(faults).toEqual([]);
});

test('no address stands in a text that is not one of an example, or of those sites', () => {
  const faults = all.flatMap(({ path, prose, blocks }) =>
    [...prose, ...blocks.map(({ text }) => text)].flatMap(line =>
      (line.match(/https?:\/\/[^\s)`'"|,>]+/g) ?? [])
        .filter(address => !OF_EXAMPLES.test(address) && !/^https?:\/\/?(host)?[[:]/.test(address))
        .filter(address => !ELSEWHERE.some(start => `${address}/`.startsWith(start)))
        .map(address => `${path}: ${address}`),
    ),
  );
  expect(faults).toEqual([]);
});

test('no link is written in a form that is not looked at', () => {
  const faults = all.flatMap(({ path, prose }) =>
    prose.flatMap((line, at) =>
      /\]\[[\w-]|^\[[^\]]+\]: |<a\b|<img\b/.test(line) ? `${path}:${at + 1}` : [],
    ),
  );
  expect(faults).toEqual([]);
});

test('every document is linked from another one', () => {
  const linked = new Set(
    all.flatMap(({ path, prose }) =>
      prose.flatMap(linksOf).map(link => normalize(join(dirname(path), link.split('#')[0] ?? ''))),
    ),
  );
  const alone = all.map(({ path }) => path).filter(path => path !== 'README.md' && !linked.has(path));
  expect(alone.filter(path => !linked.has(`${dirname(path)}/`) && !linked.has(dirname(path)))).toEqual([]);
});

test('the check finds what it is for', () => {
  const { anchors } = readDocument('x.md', '# A `b`, and (c)\n## Same\n## Same\n```sh\n# no heading\n```\n');
  expect([...anchors]).toEqual(['a-b-and-c', 'same', 'same-1']);
  expect(faultOf('README.md', 'docs/nothing.md')).toBe('is not there');
  expect(faultOf('README.md', '#nothing')).toBe('has no such heading');
  expect(faultOf('docs/api.md', '../../x')).toBe('leads out of the repository');
  expect(faultOf('README.md', 'https://example.org/')).toBe('is not on the list of other sites');
  expect(() => readDocument('x.md', '```sh\n')).toThrow('has no end');
});
