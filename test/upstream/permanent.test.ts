import { expect, test } from 'vitest';
import { connectionError, statusError } from '../../src/upstream/failure.ts';

function broken(code: string, message = code) {
  return connectionError('MLflow', Object.assign(new Error(message), { code }));
}

test.each([
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
  'HPE_INVALID_CONSTANT',
])('%s does not pass by itself, is told with its hint, and says nothing of who is well', code => {
  expect(broken(code)).toMatchObject({
    code: 'mlflow_unreachable',
    permanent: true,
    serverFault: false,
    hint: expect.stringContaining('MLFLOW_TRACKING_SERVER_CERT_PATH'),
  });
});

test('a proxy that refuses the tunnel does not pass by itself, one that is down does', () => {
  const tunnel = (status: number) =>
    broken('UND_ERR_ABORTED', `Proxy response (${status}) !== 200 when HTTP Tunneling`);
  expect(tunnel(407)).toMatchObject({ permanent: true, hint: expect.stringContaining('HTTPS_PROXY') });
  expect(tunnel(502).permanent).toBe(false);
});

test.each([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_SOCKET',
  'ERR_SSL_UNEXPECTED_EOF_WHILE_READING',
  'HPE_INVALID_EOF_STATE',
])('%s may pass', code => {
  expect(broken(code)).toMatchObject({ permanent: false, serverFault: null });
});

test.each([
  [302, true],
  [308, true],
  [409, true],
  [501, true],
  [500, false],
  [502, false],
  [503, false],
  [408, false],
  [429, false],
])('HTTP %i is permanent: %s', (statusCode, permanent) => {
  expect(statusError('MLflow', { statusCode, headers: {} }, null).permanent).toBe(permanent);
});
