import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { dirname, join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { ROOT } from './markdown.ts';
import { outcomeFault } from './outcomes.ts';
import type { Scene, Server } from './scene.ts';
import type { Command } from './shell.ts';

interface Call {
  readonly url: URL;
  readonly init: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: string;
  };
}

/** Sends what the line would send, to the sidecar that would answer it, and asks for a success. */
export async function checkCurl({ text, words }: Command, scene: Scene): Promise<string | null> {
  const { document, env, server } = scene;
  if (/'[^']*\$\w/.test(text.replaceAll(/"(?:\\.|[^"\\])*"/g, '')))
    return 'names a variable between single quotes, where a shell leaves it as it is';
  const unset = words.flatMap(word => variablesOf(word)).filter(name => env[name] === undefined);
  if (unset.length > 0) return `names ${unset.join(', ')}, which the section does not set`;
  const call = callOf(words.slice(1).map(word => word.replaceAll(VARIABLE, (_, name) => env[name] ?? '')));
  if (typeof call === 'string') return call;
  if (call.url.port === '8000') return checkExample(call.url, dirname(document.path));
  if (server.kind === 'cluster')
    return `asks ${call.url.host}, and what the section has installed is elsewhere`;
  if (!hostsOf(server).includes(call.url.host)) return `asks ${call.url.host}, where nothing of ours is`;
  return send(call, scene);
}

const VARIABLE = /\$(\w+)/g;

function variablesOf(word: string): readonly string[] {
  return [...word.matchAll(VARIABLE)].map(([, name = '']) => name);
}

function hostsOf(server: Server): readonly string[] {
  const isNamed = server.kind === 'started' && server.name !== null;
  return ['localhost:5080', ...(isNamed ? [`${server.name}:5080`] : [])];
}

async function send({ url, init }: Call, { stand, server }: Scene): Promise<string | null> {
  const base = server.kind === 'started' ? await stand.start(server.env) : stand.url;
  // Where it listens on every address, that is what it names.
  const target = new URL(url.pathname + url.search, base.replace('0.0.0.0', '127.0.0.1'));
  // Not `fetch`, which names the host that it connects to.
  const asked = request(target, { method: init.method, headers: { ...init.headers, host: url.host } });
  const answered: Promise<IncomingMessage[]> = once(asked.end(init.body), 'response');
  const [answer] = await answered;
  const text = answer === undefined ? '' : await readText(answer);
  const status = answer?.statusCode ?? 0;
  return status >= 200 && status < 300 ? outcomeFault(text) : `is answered ${status}: ${text}`;
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
