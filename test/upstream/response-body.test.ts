import { randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { Buffers, ResponseBody } from '../../src/upstream/response-body.ts';

const KIB = 1024;

function flow() {
  return { pause: vi.fn(), resume: vi.fn(), abort: vi.fn() };
}

/** Gives `chunks`, from one buffer as a socket might, whenever it is not paused. */
async function send(body: ResponseBody, chunks: readonly Buffer[], isPaused: () => boolean): Promise<void> {
  for (const chunk of chunks) {
    while (isPaused()) await turn();
    const lent = Buffer.from(chunk);
    body.push(lent);
    lent.fill(0);
  }
  body.finish();
}

function pausable() {
  let isPaused = false;
  return {
    isPaused: () => isPaused,
    flow: {
      pause: () => {
        isPaused = true;
      },
      resume: () => {
        isPaused = false;
      },
      abort: () => undefined,
    },
  };
}

test('what is read is what came, however it comes and however slowly it is read, over shared buffers', async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 300 * KIB }), { maxLength: 12 });
  const body = fc.record({ sizes, knowsSize: fc.boolean(), pauses: fc.array(fc.nat(3)) });
  await fc.assert(
    fc.asyncProperty(fc.array(body, { minLength: 1, maxLength: 4 }), async bodies => {
      const buffers = new Buffers();
      const results = bodies.map(async ({ sizes: lengths, knowsSize, pauses }) => {
        const chunks = lengths.map(length => randomBytes(length));
        const sent = Buffer.concat(chunks);
        const { flow: control, isPaused } = pausable();
        const one = new ResponseBody(knowsSize ? sent.length : null, control, buffers);
        const sending = send(one, chunks, isPaused);
        const read: Buffer[] = [];
        for await (const piece of one) {
          // As a write to a disk: it takes the bytes some time after it was begun.
          for (let n = pauses[read.length % (pauses.length || 1)] ?? 0; n > 0; n--) await turn();
          read.push(Buffer.from(piece));
        }
        await sending;
        return Buffer.concat(read).equals(sent);
      });
      expect(await Promise.all(results)).toEqual(bodies.map(() => true));
    }),
    { numRuns: 60 },
  );
});

describe('backpressure', () => {
  test('the connection pauses while 128 KiB wait, and goes on when they are read', async () => {
    const control = flow();
    const body = new ResponseBody(null, control, new Buffers());
    body.push(Buffer.alloc(127 * KIB));
    expect(control.pause).not.toHaveBeenCalled();
    body.push(Buffer.alloc(KIB));
    body.push(Buffer.alloc(KIB));
    expect(control.pause).toHaveBeenCalledTimes(1);
    const pieces = body[Symbol.asyncIterator]();
    expect((await pieces.next()).value).toHaveLength(129 * KIB);
    expect(control.resume).toHaveBeenCalledTimes(1);
    await pieces.return(undefined);
  });

  test('a connection that has ended is not told to go on', async () => {
    const control = flow();
    const body = new ResponseBody(null, control, new Buffers());
    body.push(Buffer.alloc(200 * KIB));
    body.finish();
    let bytes = 0;
    for await (const piece of body) bytes += piece.byteLength;
    expect(bytes).toBe(200 * KIB);
    expect(control.resume).not.toHaveBeenCalled();
    expect(control.abort).not.toHaveBeenCalled();
  });
});

describe('an end', () => {
  test('by a failure comes after what had come', async () => {
    const body = new ResponseBody(10, flow(), new Buffers());
    body.push(Buffer.from('half'));
    body.fail(new Error('reset'));
    const read: string[] = [];
    const reading = (async () => {
      for await (const piece of body) read.push(Buffer.from(piece).toString());
    })();
    await expect(reading).rejects.toThrow('reset');
    expect(read).toEqual(['half']);
  });

  test('that the reader makes, before or after its first piece, ends the connection once', async () => {
    const [unread, begun] = [flow(), flow()];
    const first = new ResponseBody(null, unread, new Buffers());
    first.close();
    first.close();
    const second = new ResponseBody(null, begun, new Buffers());
    second.push(Buffer.from('x'));
    for await (const piece of second) {
      expect(piece).toHaveLength(1);
      break;
    }
    second.close();
    expect(unread.abort).toHaveBeenCalledTimes(1);
    expect(begun.abort).toHaveBeenCalledTimes(1);
  });

  test('of a body that nobody reads holds nobody up', async () => {
    const body = new ResponseBody(null, flow(), new Buffers());
    body.fail(new Error('nobody sees it'));
    await turn();
    expect(body.close()).toBeUndefined();
  });
});

test('a large body takes two buffers and gives them back for the next', async () => {
  const buffers = new Buffers();
  const given = new Set<ArrayBufferLike>();
  for (let n = 0; n < 3; n++) {
    const { flow: control, isPaused } = pausable();
    const body = new ResponseBody(null, control, buffers);
    const sending = send(body, Array(20).fill(Buffer.alloc(64 * KIB)), isPaused);
    for await (const piece of body) {
      given.add(piece.buffer);
      await turn();
    }
    await sending;
  }
  expect(given.size).toBe(2);
});
