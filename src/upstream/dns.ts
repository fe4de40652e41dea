import { isIP, type LookupFunction } from 'node:net';
import { callbackify } from 'node:util';
import { type Clock, systemClock } from '../domain/clock.ts';
import { errnoOf } from '../domain/errors.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { SingleFlight } from '../policy/single-flight.ts';

export interface Address {
  readonly address: string;
  readonly family: 4 | 6;
}

/** At least one address, the preferred ones first, and for how many milliseconds they are said to hold. */
export interface Found {
  readonly addresses: readonly Address[];
  readonly ttlMs: number;
}

/** Rejects with the code `ENOTFOUND` (there is no such name), `EAI_AGAIN` or `ETIMEOUT`. */
export type ResolveName = (host: string) => Promise<Found>;

/** Leaves half a second of the 3 s for connecting. */
const LOOKUP_MS = 2_500;
/** A TTL of 0 would be a question for each connection, and a day a server that nobody finds after it has moved. */
const [SHORTEST_TTL_MS, LONGEST_TTL_MS] = [5_000, 60_000];
const NEGATIVE_TTL_MS = 1_000;
/** For how long an address is good enough where nobody can be asked for a newer one: servers seldom move. */
const STALE_MS = 3_600_000;
/** How long a newer address is waited for where an old one is known. */
const REFRESH_WAIT_MS = 300;
/** Artifact addresses come from outside: whoever writes them must not fill the memory. */
const MOST_NAMES = 1_000;

interface Known {
  readonly found: Found | null;
  readonly error: Error | null;
  readonly freshUntil: number;
  readonly staleUntil: number;
}

/** Looks host names up for connections, and remembers what it found. */
export class Names {
  readonly #resolve: ResolveName;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();
  readonly #asking = new SingleFlight<Found>();

  constructor(resolve: ResolveName, clock: Clock = systemClock) {
    this.#resolve = resolve;
    this.#clock = clock;
  }

  /** For `net.connect`. */
  readonly lookup: LookupFunction = (host, options, callback) => {
    const finding = callbackify(() => this.find(host));
    finding((error, found) => {
      if (error !== null) return callback(error, '');
      const family = familyOf(options.family);
      const fitting = found.addresses.filter(address => family === 0 || address.family === family);
      const [first] = fitting;
      if (first === undefined) return callback(lookupError(host, 'ENOTFOUND'), '');
      if (options.all === true) return callback(null, fitting);
      return callback(null, first.address, first.family);
    });
  };

  async find(host: string): Promise<Found> {
    const name = host.toLowerCase();
    const literal = literalOf(name);
    if (literal !== null) return literal;
    const known = this.#known.get(name);
    const now = this.#clock.monotonic();
    if (known !== undefined && now < known.freshUntil) return given(known);
    const asking = this.#asking.join(name, () => this.#ask(name));
    if (known === undefined || known.found === null || now >= known.staleUntil) return await asking;
    return await orStale(asking, known.found);
  }

  async #ask(name: string): Promise<Found> {
    try {
      const found = await within(LOOKUP_MS, this.#resolve(name));
      if (found === TOO_LATE) throw lookupError(name, 'ETIMEOUT');
      const ttlMs = Math.min(LONGEST_TTL_MS, Math.max(SHORTEST_TTL_MS, found.ttlMs));
      const freshUntil = this.#clock.monotonic() + ttlMs;
      this.#remember(name, { found, error: null, freshUntil, staleUntil: freshUntil + STALE_MS });
      return found;
    } catch (error) {
      this.#rememberFailure(name, error);
      throw error;
    }
  }

  #rememberFailure(name: string, error: unknown): void {
    if (!(error instanceof Error)) return;
    const known = this.#known.get(name);
    const now = this.#clock.monotonic();
    const isStale = known !== undefined && known.found !== null && now < known.staleUntil;
    // That there is no such name any more is an answer.
    const kept = isStale && !isDefinite(error) ? known : { found: null, staleUntil: 0 };
    this.#remember(name, { ...kept, error, freshUntil: now + NEGATIVE_TTL_MS });
  }

  #remember(name: string, known: Known): void {
    this.#known.delete(name);
    this.#known.set(name, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST_NAMES && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** A newer address if it comes soon; else the old one, unless it is certain that there is none. */
async function orStale(asking: Promise<Found>, stale: Found): Promise<Found> {
  try {
    const found = await within(REFRESH_WAIT_MS, asking);
    if (found !== TOO_LATE) return found;
    asking.catch(() => undefined);
  } catch (error) {
    if (isDefinite(error)) throw error;
  }
  return stale;
}

function given({ found, error }: Known): Found {
  if (found !== null) return found;
  throw error ?? new Error('neither found nor not found');
}

function isDefinite(error: unknown): boolean {
  return errnoOf(error) === 'ENOTFOUND';
}

function literalOf(name: string): Found | null {
  const family = isIP(name);
  if (family === 4 || family === 6) return { addresses: [{ address: name, family }], ttlMs: 0 };
  return name === 'localhost' || name.endsWith('.localhost') ? LOOPBACK : null;
}

const LOOPBACK: Found = {
  addresses: [
    { address: '127.0.0.1', family: 4 },
    { address: '::1', family: 6 },
  ],
  ttlMs: 0,
};

function familyOf(family: number | 'IPv4' | 'IPv6' | undefined): number {
  if (family === 'IPv4') return 4;
  return family === 'IPv6' ? 6 : (family ?? 0);
}

export type LookupCode = 'ENOTFOUND' | 'EAI_AGAIN' | 'ETIMEOUT';

export function lookupError(host: string, code: LookupCode, cause?: unknown): Error {
  return Object.assign(new Error(`The look-up of ${host} failed.`, { cause }), { code, hostname: host });
}
