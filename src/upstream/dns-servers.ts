import { promises } from 'node:dns';
import { errnoOf } from '../domain/errors.ts';
import { within } from '../policy/abort.ts';
import { type Address, type Found, type LookupCode, lookupError } from './dns.ts';
import type { ResolvConf } from './dns-files.ts';

/** For one try of one server; the second try takes twice as long. */
const TRY_MS = 700;
const TRIES = 2;
/** RFC 8305: how long the answer for the other family is waited for. */
const OTHER_FAMILY_MS = 50;
/** RFC 1035. */
const MAX_NAME_LENGTH = 253;

/** The names that are asked for, in this order, as resolv.conf(5) has it. */
export function candidatesOf(
  host: string,
  { search, ndots }: Omit<ResolvConf, 'servers'>,
): readonly string[] {
  if (host.endsWith('.')) return [host.slice(0, -1)];
  const searched = search.map(domain => `${host}.${domain}`);
  const isLong = host.split('.').length > ndots;
  const names = isLong ? [host, ...searched] : [...searched, host];
  return names.filter(name => name.length <= MAX_NAME_LENGTH);
}

/**
 * Asks the name servers on sockets of the event loop's own. The system's `getaddrinfo` takes a thread for as long as a server
 * is silent, of which the disk needs some as well.
 */
export class NameServers {
  readonly #conf: () => Promise<ResolvConf>;
  #resolver = new promises.Resolver({ timeout: TRY_MS, tries: TRIES });
  #servers = '';

  /** @param conf where no servers are named, those are asked that the system has */
  constructor(conf: () => Promise<ResolvConf>) {
    this.#conf = conf;
  }

  async resolve(host: string): Promise<Found> {
    const conf = await this.#conf();
    this.#use(conf.servers);
    let code: LookupCode = 'ENOTFOUND';
    for (const name of candidatesOf(host, conf)) {
      try {
        return await this.#both(name);
      } catch (error) {
        const failure = codeOf(error);
        if (failure === 'ETIMEOUT') throw lookupError(host, failure, error);
        // One domain that cannot be asked for does not hide the others.
        if (failure === 'EAI_AGAIN') code = failure;
      }
    }
    throw lookupError(host, code);
  }

  #use(servers: readonly string[]): void {
    const now = servers.join(' ');
    if (now === this.#servers || servers.length === 0) return;
    // A new one, since one with open questions takes no other servers.
    this.#resolver = new promises.Resolver({ timeout: TRY_MS, tries: TRIES });
    this.#resolver.setServers(servers);
    this.#servers = now;
  }

  async #both(name: string): Promise<Found> {
    const found: (Address & { readonly ttl: number })[] = [];
    const errors: unknown[] = [];
    const asks = [this.#one(name, 4), this.#one(name, 6)].map(async records => {
      try {
        found.push(...(await records));
      } catch (error) {
        errors.push(error);
        throw error;
      }
    });
    await Promise.any(asks).catch(() => undefined);
    if (errors.length < asks.length) await within(OTHER_FAMILY_MS, Promise.allSettled(asks));
    if (found.length === 0) throw errors.find(error => codeOf(error) !== 'ENOTFOUND') ?? errors[0];
    const addresses = found.map(({ address, family }) => ({ address, family }));
    const ttlMs = Math.min(...found.map(({ ttl }) => ttl)) * 1_000;
    return { addresses: addresses.toSorted((a, b) => a.family - b.family), ttlMs };
  }

  async #one(name: string, family: 4 | 6) {
    const records = await (family === 4
      ? this.#resolver.resolve4(name, { ttl: true })
      : this.#resolver.resolve6(name, { ttl: true }));
    return records.map(record => ({ ...record, family }));
  }
}

/** Not the resolver's own: its ECONNREFUSED is the name server's, not MLflow's. */
function codeOf(error: unknown): LookupCode {
  const code = errnoOf(error);
  if (code === 'ENOTFOUND' || code === 'ENODATA' || code === 'EBADNAME') return 'ENOTFOUND';
  return code === 'ETIMEOUT' ? 'ETIMEOUT' : 'EAI_AGAIN';
}
