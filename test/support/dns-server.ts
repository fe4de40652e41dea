import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

/** What the server says of a name; `silent` is no answer at all. */
export type DnsAnswer =
  | 'nxdomain'
  | 'servfail'
  | 'silent'
  | { readonly a?: readonly string[]; readonly aaaa?: readonly string[]; readonly ttl?: number };

const RCODES = { nxdomain: 3, servfail: 2 } as const;
const TYPES = new Map([
  [1, 'A'],
  [28, 'AAAA'],
]);

/** A name server on a UDP port of the loopback. It knows the names that a test gives it, and counts what it is asked. */
export class DnsServer {
  /** As `A name`, in the order in which they came. */
  readonly asked: string[] = [];
  readonly #socket: Socket;
  readonly #names = new Map<string, DnsAnswer>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (query, { port, address }) => {
      const reply = this.#reply(query);
      if (reply !== null) socket.send(reply, port, address);
    });
  }

  static async start(): Promise<DnsServer> {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return new DnsServer(socket);
  }

  get address(): string {
    return `127.0.0.1:${this.#socket.address().port}`;
  }

  /** Other names do not exist. */
  answer(name: string, answer: DnsAnswer): void {
    this.#names.set(name, answer);
  }

  async close(): Promise<void> {
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  #reply(query: Buffer): Buffer | null {
    const { name, end } = nameIn(query);
    const type = TYPES.get(query.readUInt16BE(end)) ?? '';
    this.asked.push(`${type} ${name}`);
    const answer = this.#names.get(name) ?? 'nxdomain';
    const question = query.subarray(12, end + 4);
    if (answer === 'silent') return null;
    if (typeof answer === 'string') return Buffer.concat([headerOf(query, RCODES[answer], 0), question]);
    const addresses = (type === 'A' ? answer.a : answer.aaaa) ?? [];
    const records = addresses.map(address => recordOf(type, address, answer.ttl ?? 60));
    return Buffer.concat([headerOf(query, 0, records.length), question, ...records]);
  }
}

function nameIn(query: Buffer): { readonly name: string; readonly end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 };
}

function headerOf(query: Buffer, rcode: number, answers: number): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(query.readUInt16BE(0), 0);
  // An answer, recursion desired and available.
  header.writeUInt16BE(0x8180 | rcode, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(answers, 6);
  return header;
}

function recordOf(type: string, address: string, ttl: number): Buffer {
  const bytes =
    type === 'A' ? address.split('.').map(Number) : groupsOf(address).flatMap(n => [n >> 8, n & 255]);
  const record = Buffer.alloc(12);
  // The name is that of the question.
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(type === 'A' ? 1 : 28, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(ttl, 6);
  record.writeUInt16BE(bytes.length, 10);
  return Buffer.concat([record, Buffer.from(bytes)]);
}

function groupsOf(address: string): readonly number[] {
  const [head = '', tail = ''] = address.split('::');
  const parse = (part: string) =>
    part === '' ? [] : part.split(':').map(group => Number.parseInt(group, 16));
  const [left, right] = [parse(head), parse(tail)];
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
}
