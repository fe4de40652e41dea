import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './markdown.ts';
import type { Scene } from './scene.ts';
import type { Command } from './shell.ts';

interface Call {
  readonly url: URL;
  readonly init: RequestInit & { readonly headers: Record<string, string> };
}

/** Sends what the line would send, to the sidecar of the stand, and asks for a success. */
export async function checkCurl({ words }: Command, { stand, document }: Scene): Promise<string | null> {
  const call = callOf(words.slice(1));
  if (typeof call === 'string') return call;
  if (call.url.port === '8000') return checkExample(call.url, dirname(document.path));
  if (call.url.host !== 'localhost:5080') return `asks ${call.url.host}, where nothing of ours is`;
  const answer = await fetch(new URL(call.url.pathname + call.url.search, stand.url), call.init);
  const text = await answer.text();
  return answer.ok ? null : `is answered ${answer.status}: ${text}`;
}

function callOf(words: readonly string[]): Call | string {
  const headers: Record<string, string> = {};
  const data: string[] = [];
  const rest = words.values();
  let method: string | null = null;
  let address: string | null = null;
  for (const word of rest) {
    if (!word.startsWith('-')) {
      if (address !== null) return `has two addresses: ${address} and ${word}`;
      address = word;
      continue;
    }
    const value = rest.next().value ?? '';
    if (word === '-X') method = value;
    else if (word === '-d') data.push(value);
    else if (word === '-H') headers[value.split(':')[0] ?? ''] = value.replace(/^[^:]*: */, '');
    else return `has a flag that is not known here: ${word}`;
  }
  if (address === null) return 'has no address';
  const url = new URL(/^https?:/.test(address) ? address : `http://${address}`);
  if (data.length === 0) return { url, init: { method: method ?? 'GET', headers } };
  const types = { 'Content-Type': 'application/x-www-form-urlencoded', ...headers };
  return { url, init: { method: method ?? 'POST', headers: types, body: data.join('&') } };
}

/** The example service that stands beside its document; a test of its own runs it. */
function checkExample({ pathname }: URL, dir: string): string | null {
  const file = join(ROOT, dir, 'app.py');
  if (!existsSync(file)) return 'asks port 8000, and there is no app.py beside the document';
  return readFileSync(file, 'utf8').includes(`("${pathname}")`) ? null : `app.py has no ${pathname}`;
}
