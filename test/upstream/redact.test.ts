import { expect, test } from 'vitest';
import { readJson } from '../../src/upstream/json.ts';
import { redactor } from '../../src/upstream/redact.ts';
import { call, clientFor, NO_CREDENTIAL, serve } from './support.ts';

test.each([
  ['Bearer abcdef', 'no: Bearer abcdef', 'no: Bearer [redacted]'],
  ['Bearer abcdef', 'no: abcdef!', 'no: [redacted]!'],
  [`Basic ${btoa('alice:geheim')}`, 'alice:geheim, geheim', '[redacted], [redacted]'],
  [
    `Basic ${btoa('alice:geheim')}`,
    `bad creds: Basic ${btoa('alice:geheim')}`,
    'bad creds: Basic [redacted]',
  ],
  ['Bearer abc', 'the abc of it', 'the abc of it'],
])('asked with %s, %j is told as %j', (authorization, said, told) => {
  expect(redactor(authorization)(said)).toBe(told);
});

test('without a credential nothing is taken out', () => {
  expect(redactor(null)('Production')).toBe('Production');
});

test('a refusal that echoes the credential does not tell it, and a success is left as it is', async () => {
  const header = `Basic ${btoa('Production:Production')}`;
  const { url } = await serve(({ url: path }) =>
    path === '/refused'
      ? { status: 403, body: { error_code: 'PERMISSION_DENIED', message: `bad creds: ${header}` } }
      : { body: { stage: 'Production' } },
  );
  const client = await clientFor({ trusted: [url], credentials: NO_CREDENTIAL });
  const ask = async (path: string) => {
    const own = { ...call(), authorization: header };
    const response = await client.send('MLflow', { url: new URL(path, url), method: 'GET' }, own);
    return await readJson(
      'MLflow',
      response,
      { maxBytes: 1_000, code: 'too_large', wanted: 'all' },
      own.signal,
    );
  };
  await expect(ask('/refused')).rejects.toMatchObject({
    code: 'access_denied',
    message: expect.stringContaining('bad creds: Basic [redacted]'),
  });
  await expect(ask('/')).resolves.toMatchObject({ body: { stage: 'Production' } });
});
