import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildConnector } from 'undici';
import { expect, onTestFinished, test } from 'vitest';
import { answerFirst } from '../../src/upstream/answer-first.ts';
import { atMost } from '../support/limits.ts';

/** Both ends of a connection; the server reads nothing. */
async function connection(): Promise<{ readonly ours: Socket; readonly theirs: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? String(address?.port) : '';
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const connect = answerFirst(buildConnector({ allowH2: false }));
  const accepted = once(server, 'connection');
  connect({ hostname: '127.0.0.1', protocol: 'http:', port }, (error, socket) =>
    error === null ? resolve(socket) : reject(error),
  );
  const ours = await promise;
  const [theirs] = await accepted;
  if (!(theirs instanceof Socket)) throw new Error('not a socket');
  onTestFinished(() => {
    ours.destroy();
    theirs.destroy();
  });
  return { ours, theirs };
}

/** What came, and what ended it. */
function ending(socket: Socket) {
  let came = '';
  let code: unknown = null;
  socket.on('data', chunk => {
    came += String(chunk);
  });
  socket.on('error', error => {
    code = 'code' in error ? error.code : error;
  });
  return async () => {
    await expect.poll(() => socket.closed).toBe(true);
    return { came, code };
  };
}

test.each(['', 'the answer'])(
  'of a server that says %j and hangs up, that is read before a write fails',
  async said => {
    const { ours, theirs } = await connection();
    const ended = ending(ours);
    ours.write('a body');
    await sleep(20);
    // All in one turn, so that the write finds the connection gone before anything was read from it.
    theirs.write(said);
    theirs.destroy();
    const startedAt = performance.now();
    ours.cork();
    ours.write('more of it');
    ours.write('and more');
    ours.uncork();
    const { came, code } = await ended();
    expect(came).toBe(said);
    expect(code).toMatch(/^(EPIPE|ECONNRESET)$/);
    expect(performance.now() - startedAt).toBeLessThan(atMost(500));
  },
);

test('a connection that nobody reads from ends all the same', async () => {
  const { ours, theirs } = await connection();
  const { promise, resolve } = Promise.withResolvers<Error | null | undefined>();
  ours.on('error', () => undefined).pause();
  ours.write('a body');
  await sleep(20);
  theirs.destroy();
  ours.write('more of it', resolve);
  expect(await promise).toMatchObject({ code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) });
  expect(ours.destroyed).toBe(true);
});

test('no connection is an error like any other', async () => {
  const connect = answerFirst(buildConnector({ allowH2: false, timeout: 500 }));
  const { promise, resolve } = Promise.withResolvers<Error | null>();
  connect({ hostname: '127.0.0.1', protocol: 'http:', port: '1' }, (...[error]) => resolve(error));
  expect(await promise).toMatchObject({ code: 'ECONNREFUSED' });
});
