import { describe, expect, test } from 'vitest';
import { bytesOf, post, problem, sendBytes, sidecar } from './support.ts';

describe('names in the path', () => {
  test.each([
    '%2e%2e',
    '..',
    '.',
    'a%2fb',
    '%00',
    'a%0d%0ab',
    '%20',
    'a%3Ab',
    '%zz',
    'a%',
    '%ff',
    'x'.repeat(501),
  ])('%s is refused with invalid_request', async name => {
    const { port, requests } = await sidecar();
    const reload = await sendBytes(port, bytesOf('POST', `/v1/models/${name}/reload?version=1`));
    const read = await sendBytes(port, bytesOf('GET', `/v1/models/${name}`));
    expect([reload.status, read.status]).toEqual([400, 400]);
    expect(problem(reload).code).toBe('invalid_request');
    expect(problem(read).faults).toHaveLength(1);
    expect(requests).toEqual([]);
  });

  test.each(['a/b', '../a', 'a/..', ''])('%j is another path: not_found', async name => {
    const { port, requests } = await sidecar();
    const reply = await sendBytes(port, bytesOf('POST', `/v1/models/${name}/reload?version=1`));
    expect([404, 405]).toContain(reply.status);
    expect(requests).toEqual([]);
  });

  test.each(['x'.repeat(260), 'y'.repeat(300), 'ü'.repeat(300), '%2e%2e', 'a b@c?#&'])(
    'a name is decoded once: %s',
    async name => {
      const { url, requests } = await sidecar();
      const reply = await post(`${url}/v1/models/${encodeURIComponent(name)}/reload`, { version: 1 });
      expect(reply.status).toBe(200);
      expect(requests[0]?.uri).toEqual({ kind: 'version', name, version: '1' });
    },
  );
});
