import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { within } from '../policy/abort.ts';
import type { Address } from './dns.ts';

/** What of resolv.conf(5) is needed. */
export interface ResolvConf {
  readonly servers: readonly string[];
  /** Domains that short names are tried in. */
  readonly search: readonly string[];
  /** A name with at least so many dots is tried as it is first. */
  readonly ndots: number;
}

export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  let search: readonly string[] = [];
  let ndots = 1;
  for (const [key, ...values] of wordsOf(text, /[#;]/)) {
    const [value = ''] = values;
    if (key === 'nameserver' && isIP(value.split('%', 1)[0] ?? '') > 0) servers.push(value);
    if (key === 'search' || key === 'domain') search = values.map(domain => domain.replace(/\.$/, ''));
    if (key !== 'options') continue;
    for (const option of values) ndots = Number(/^ndots:(\d{1,2})$/.exec(option)?.[1] ?? ndots);
  }
  return { servers, search: search.filter(domain => domain !== ''), ndots };
}

/** hosts(5): addresses by name. */
export function parseHosts(text: string): ReadonlyMap<string, readonly Address[]> {
  const hosts = new Map<string, Address[]>();
  for (const [address = '', ...names] of wordsOf(text, /#/)) {
    const family = isIP(address);
    if (family !== 4 && family !== 6) continue;
    for (const name of names) {
      const known = hosts.get(name.toLowerCase()) ?? [];
      hosts.set(name.toLowerCase(), [...known, { address, family }]);
    }
  }
  return hosts;
}

function wordsOf(text: string, comment: RegExp): readonly string[][] {
  return text.split('\n').map(line => (line.split(comment, 1)[0] ?? '').trim().split(/\s+/));
}

const REREAD_MS = 5_000;
const FIRST_READ_MS = 100;

/** A small file of the system's, read again every few seconds in which it is needed; a disk that hangs holds nobody up. */
export class SystemFile<T> {
  readonly #path: string;
  readonly #parse: (text: string) => T;
  #value: T;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | null = null;

  /** @param absent what it is where there is no such file */
  constructor(path: string, parse: (text: string) => T, absent: T) {
    this.#path = path;
    this.#parse = parse;
    this.#value = absent;
  }

  async content(): Promise<T> {
    const isFirst = this.#readAt === Number.NEGATIVE_INFINITY;
    if (this.#reading === null && performance.now() - this.#readAt >= REREAD_MS) this.#reading = this.#read();
    if (isFirst && this.#reading !== null) await within(FIRST_READ_MS, this.#reading);
    return this.#value;
  }

  async #read(): Promise<void> {
    try {
      this.#value = this.#parse(await readFile(this.#path, 'utf8'));
    } catch {
      // What was read before is better than nothing.
    } finally {
      this.#readAt = performance.now();
      this.#reading = null;
    }
  }
}
