import { connect, type Socket } from 'node:net';
import { z } from 'zod';

/**
 * A process of its own that sends `POST /v1/reload` over kept-alive connections, one call on each at a time, and prints what
 * came of it as JSON. `inFlight`: a closed loop of so many callers. `perSecond`: an open loop; it waits for no answer.
 */
const Plan = z.object({
  port: z.number(),
  modelUris: z.array(z.string()),
  seconds: z.number(),
  /** What is measured begins so late. */
  skipSeconds: z.number(),
  inFlight: z.number().optional(),
  perSecond: z.number().optional(),
});

const plan = Plan.parse(JSON.parse(process.argv[2] ?? ''));
/** Below what the sidecar takes in. */
const MOST_CONNECTIONS = 900;
const TICK_MS = 1;
/** The sidecar closes what is idle for 5 s, and says so in each answer; a client that uses one just then loses its call. */
const MOST_IDLE_MS = 4_000;

const requests = plan.modelUris.map(uri => {
  const body = JSON.stringify({ model_uri: uri });
  const head = `POST /v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n`;
  return Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n${body}`);
});

/** Times in milliseconds, in bins: an array of millions of them grows by copies that hold up what is sent. */
class Times {
  static readonly #BINS_PER_MS = 20;
  readonly #bins = new Uint32Array(10_000 * Times.#BINS_PER_MS);
  #count = 0;

  push(ms: number): void {
    const bin = Math.min(this.#bins.length - 1, Math.floor(ms * Times.#BINS_PER_MS));
    this.#bins[bin] = (this.#bins[bin] ?? 0) + 1;
    this.#count += 1;
  }

  summary() {
    const [p50, p99, max] = [this.#quantile(0.5), this.#quantile(0.99), this.#quantile(1)];
    return { count: this.#count, p50, p99, max };
  }

  /** The upper end of the bin that the quantile is in; 0 where there is nothing. */
  #quantile(share: number): number {
    const rank = Math.min(this.#count, Math.floor(this.#count * share) + 1);
    let seen = 0;
    const bin = this.#bins.findIndex(inBin => {
      seen += inBin;
      return rank > 0 && seen >= rank;
    });
    return (bin + 1) / Times.#BINS_PER_MS;
  }
}

const startedAt = performance.now();
const countFrom = startedAt + plan.skipSeconds * 1_000;
const endAt = startedAt + plan.seconds * 1_000;
const accepted = new Times();
const refused = new Times();
const other = new Map<string, number>();
let [sent, unsent, skipped, connections, closing] = [0, 0, 0, 0, false];

const idle: Caller[] = [];

/** One connection. */
class Caller {
  readonly #socket: Socket;
  #sentAt = 0;
  #idleSince = 0;
  #text = '';

  constructor(port: number) {
    connections += 1;
    this.#socket = connect(port, '127.0.0.1').setNoDelay(true).setEncoding('latin1');
    this.#socket.on('data', (chunk: string) => this.#read(chunk));
    this.#socket.on('error', error => count(error.message));
    this.#socket.on('close', () => {
      connections -= 1;
      const at = idle.indexOf(this);
      if (at >= 0) idle.splice(at, 1);
      if (this.#sentAt > 0 && !closing) count('closed');
    });
  }

  send(): void {
    sent += 1;
    this.#sentAt = performance.now();
    this.#socket.write(requests[sent % requests.length] ?? '');
  }

  /** Whether it may be used; ends it where not. */
  isFresh(): boolean {
    const isFresh = performance.now() - this.#idleSince < MOST_IDLE_MS;
    if (!isFresh) this.#socket.destroy();
    return isFresh;
  }

  #read(chunk: string): void {
    this.#text += chunk;
    const end = this.#text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const length = /content-length: (\d+)/i.exec(this.#text)?.[1] ?? '0';
    if (this.#text.length < end + 4 + Number(length)) return;
    const status = this.#text.slice(9, 12);
    const now = performance.now();
    if (this.#sentAt < countFrom) skipped += 1;
    else if (status === '200') accepted.push(now - this.#sentAt);
    else if (status === '503') refused.push(now - this.#sentAt);
    else count(status);
    this.#text = '';
    this.#sentAt = 0;
    this.#idleSince = now;
    done(this);
  }
}

function count(what: string): void {
  other.set(what, (other.get(what) ?? 0) + 1);
}

function done(caller: Caller): void {
  if (plan.inFlight === undefined) idle.push(caller);
  else if (performance.now() < endAt) caller.send();
}

const perSecond = plan.perSecond ?? 0;
let scheduled = 0;

function freshIdle(): Caller | null {
  for (let caller = idle.pop(); caller !== undefined; caller = idle.pop())
    if (caller.isFresh()) return caller;
  return null;
}

function tick(): void {
  const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
  for (; scheduled < due; scheduled++) {
    const caller = freshIdle() ?? (connections < MOST_CONNECTIONS ? new Caller(plan.port) : null);
    if (caller === null) unsent += 1;
    else caller.send();
  }
}

for (let n = 0; n < (plan.inFlight ?? 0); n++) new Caller(plan.port).send();
const ticker = perSecond > 0 ? setInterval(tick, TICK_MS) : undefined;

setTimeout(() => {
  clearInterval(ticker);
  closing = true;
  const seconds = plan.seconds - plan.skipSeconds;
  const result = {
    accepted: accepted.summary(),
    refused: refused.summary(),
    other: Object.fromEntries(other),
  };
  process.stdout.write(
    `${JSON.stringify({ ...result, seconds, sent, unsent, skipped, connections })}\n`,
    () => process.exit(0),
  );
}, plan.seconds * 1_000);
