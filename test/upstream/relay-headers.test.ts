import { expect, test } from 'vitest';
import { answerHeaders, requestHeaders } from '../../src/upstream/relay-headers.ts';

test('what a client of MLflow’s says of its request passes', () => {
  const given = {
    accept: '*/*',
    'content-encoding': 'gzip',
    'content-type': 'application/json',
    'if-none-match': '"a"',
    range: 'bytes=0-9',
    'user-agent': 'mlflow-python-client/3.17.2',
    'x-mlflow-workspace': 'team',
    'x-request-id': 'abc',
    'x-real-iped': 'kept',
  };
  expect(requestHeaders(given)).toEqual(given);
});

test.each([
  ...['Connection', 'Keep-Alive', 'TE', 'Trailer', 'Transfer-Encoding', 'Upgrade', 'HTTP2-Settings'],
  ...['Proxy-Authorization', 'Proxy-Connection', 'Proxy-Anything'],
  ...[
    'Host',
    'Cookie',
    'Cookie2',
    'Forwarded',
    'X-Forwarded-For',
    'X-Forwarded-Anything',
    'X-Real-IP',
    'Via',
  ],
  ...['Authorization', 'Origin', 'Referer', 'Expect', 'Accept-Encoding', 'Content-Length'],
  ...['X-Airflow-Dag-Id', 'X-Airflow-Anything'],
])('%s of a request does not pass, in lower case or as it is', name => {
  expect(requestHeaders({ [name]: 'x', [name.toLowerCase()]: 'x', 'x-other': 'y' })).toEqual({
    'x-other': 'y',
  });
});

test('what Connection names does not pass, but for a length', () => {
  const given = { 'x-one': '1', 'x-two': '2', 'x-three': '3', 'content-length': '7' };
  const connection = 'close, X-One ,x-two,, Content-Length';
  expect(requestHeaders({ ...given, connection })).toEqual({ 'x-three': '3' });
  expect(answerHeaders({ ...given, connection: ['close', 'x-one, X-Two', 'content-length'] })).toEqual({
    'x-three': '3',
    'content-length': '7',
  });
});

test('a header of several values is one line, and one without a value none', () => {
  const given = { 'set-cookie': ['a', 'b'], 'x-one': undefined };
  expect(requestHeaders(given)).toEqual({});
});

test('what MLflow says of its answer passes, in its bytes', () => {
  const given = {
    'accept-ranges': 'bytes',
    age: '3',
    'content-disposition': 'attachment; filename=é.txt',
    'content-encoding': 'gzip',
    'content-length': '7',
    'content-range': 'bytes 0-6/9',
    'content-type': 'application/json',
    etag: '"a"',
    'last-modified': 'Mon, 23 Nov 2026 02:15:22 GMT',
    'www-authenticate': ['Basic realm="a"', 'Bearer'],
    'x-mlflow-anything': 'x',
  };
  expect(answerHeaders(given)).toEqual(given);
});

test.each([
  ...['Connection', 'Keep-Alive', 'Trailer', 'Transfer-Encoding', 'Upgrade', 'Proxy-Authenticate'],
  ...['Set-Cookie', 'Set-Cookie2', 'Server', 'Date', 'Location', 'Via', 'Alt-Svc', 'Retry-After'],
  ...['X-Request-Id', 'X-Sidecar-Stale'],
])('%s of an answer does not pass', name => {
  expect(answerHeaders({ [name]: 'x', [name.toLowerCase()]: ['x', 'y'], 'x-other': 'y' })).toEqual({
    'x-other': 'y',
  });
});

test('a name that is a word of JavaScript is a name', () => {
  const given = Object.fromEntries([
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ]);
  expect(Object.entries(requestHeaders(given))).toEqual([
    ['__proto__', 'x'],
    ['constructor', 'y'],
  ]);
});
