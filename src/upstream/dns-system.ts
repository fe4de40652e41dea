import { promises } from 'node:dns';
import { TOO_LATE, within } from '../policy/abort.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import { type Address, type Found, lookupError, Names, type ResolveName } from './dns.ts';
import { parseHosts, parseResolvConf, type ResolvConf, SystemFile } from './dns-files.ts';
import { NameServers } from './dns-servers.ts';

/** The system has no TTLs. */
const SYSTEM_TTL_MS = 30_000;
/** Each holds a thread for as long as a name server is silent. */
const MOST_SYSTEM_LOOKUPS = 2;
/** How long the name servers alone are waited for. */
const HEAD_START_MS = 1_200;

type SystemLookup = (host: string) => Promise<readonly Address[]>;

export interface Sources {
  readonly hosts: () => Promise<ReadonlyMap<string, readonly Address[]>>;
  readonly conf: () => Promise<ResolvConf>;
  /** `getaddrinfo`, which knows what else the system is configured for. */
  readonly system: SystemLookup;
}

/** Host names as the system knows them: its hosts file, its name servers, and at last whatever else it asks. */
export function systemNames(): Names {
  const hosts = new SystemFile('/etc/hosts', parseHosts, new Map());
  const conf = new SystemFile('/etc/resolv.conf', parseResolvConf, { servers: [], search: [], ndots: 1 });
  return new Names(
    resolverOf({ hosts: () => hosts.content(), conf: () => conf.content(), system: getaddrinfo }),
  );
}

export function resolverOf({ hosts, conf, system }: Sources): ResolveName {
  const servers = new NameServers(conf);
  const last = new LastResort(system);
  return async host => {
    const addresses = (await hosts()).get(host);
    if (addresses !== undefined) return { addresses, ttlMs: 0 };
    const asked = servers.resolve(host);
    try {
      const early = await within(HEAD_START_MS, asked);
      if (early !== TOO_LATE) return early;
    } catch {
      // The system may know what the name servers do not.
    }
    try {
      return await Promise.any([asked, last.resolve(host)]);
    } catch {
      // The name servers' own word, which is more exact.
      return await asked;
    }
  };
}

class LastResort {
  readonly #system: SystemLookup;
  readonly #asking = new SingleFlight<Found>();
  #count = 0;

  constructor(system: SystemLookup) {
    this.#system = system;
  }

  resolve(host: string): Promise<Found> {
    return this.#asking.join(host, async () => {
      if (this.#count >= MOST_SYSTEM_LOOKUPS) throw lookupError(host, 'EAI_AGAIN');
      this.#count += 1;
      try {
        return { addresses: await this.#system(host), ttlMs: SYSTEM_TTL_MS };
      } finally {
        this.#count -= 1;
      }
    });
  }
}

async function getaddrinfo(host: string): Promise<readonly Address[]> {
  const found = await promises.lookup(host, { all: true });
  return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }));
}
