import { once } from 'node:events';
import { createServer } from 'node:https';
import { describe, expect, onTestFinished, test } from 'vitest';
import { makeCertificates } from '../support/scripted/certificates.ts';
import { type Call, startCaller } from './python.ts';
import { answer, oddServer } from './servers.ts';

const URI = 'models:/churn/Production';

describe('what it sends', () => {
  async function sent(call: Call, more: Readonly<Record<string, string>>) {
    const server = await oddServer(answer(500, 'text/plain', ''));
    const proxy = 'http://127.0.0.1:1';
    const { error } = await startCaller({
      SIDECAR_CACHE_DIR: '/nowhere',
      http_proxy: proxy,
      HTTP_PROXY: proxy,
      ALL_PROXY: proxy,
      ...more,
      SIDECAR_URL: `${server.url}/models/`,
    }).call(call);
    expect(error?.text).toContain('HTTP 500');
    const [head = '', body = ''] = server.requests[0]?.split('\r\n\r\n') ?? [];
    const fields: unknown = JSON.parse(body);
    return { lines: head.split('\r\n'), fields };
  }

  test('is a POST to the sidecar under its path, past any proxy, with a little less than the deadline', async () => {
    const first = await sent({ arguments: [URI] }, {});
    expect(first.lines[0]).toBe('POST /models/v1/reload HTTP/1.1');
    expect(first.lines.filter(line => /^(authorization|x-)/i.test(line))).toEqual([]);
    expect(first.fields).toEqual({ model_uris: [URI], deadline_s: 59 });
    const options = { deadline_s: 2, max_stale_s: 3_600 };
    const second = await sent({ arguments: [URI], options }, { SIDECAR_TOKEN: ' t0ken\n' });
    expect(second.lines).toContain('Authorization: Bearer t0ken');
    expect(second.fields).toEqual({ model_uris: [URI], deadline_s: 1.6, max_stale_s: 3_600 });
    const tiny = await sent({ function: 'reload', options: { deadline_s: 0.1 } }, {});
    expect(tiny.fields).toEqual({ deadline_s: 0.1, force: false });
  });

  test('says from which Airflow task it comes', async () => {
    const { lines } = await sent(
      { arguments: [URI] },
      {
        AIRFLOW_CTX_DAG_ID: 'ml_model_training',
        AIRFLOW_CTX_DAG_RUN_ID: 'manual__2026-01-01T00:00:00+00:00',
        AIRFLOW_CTX_TASK_ID: 'reload–models\r\nX-Evil: 1',
        AIRFLOW_CTX_TRY_NUMBER: '2',
        AIRFLOW_CTX_MAP_INDEX: '0',
        AIRFLOW_CTX_DAG_OWNER: 'ml',
      },
    );
    expect(lines.filter(line => line.startsWith('X-'))).toEqual([
      'X-Airflow-Dag-Id: ml_model_training',
      'X-Airflow-Run-Id: manual__2026-01-01T00:00:00+00:00',
      'X-Airflow-Task-Id: reload?models??X-Evil: 1',
      'X-Airflow-Try-Number: 2',
      'X-Airflow-Map-Index: 0',
    ]);
  });

  test('goes over TLS to a server that shows a good certificate, and to no other', async () => {
    const certificates = await makeCertificates();
    onTestFinished(() => certificates.remove());
    const asked: string[] = [];
    const start = async ({ cert, key }: { readonly cert: string; readonly key: string }) => {
      const server = createServer({ cert, key }, (req, res) => {
        asked.push(req.url ?? '');
        res.writeHead(500).end();
      }).listen(0, '127.0.0.1');
      await once(server, 'listening');
      onTestFinished(() => void server.close());
      const address = server.address();
      return `https://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
    };
    const { authority, good, untrusted, otherHost } = certificates;
    const answers = await Promise.all(
      [good, untrusted, otherHost].map(async certificate => {
        const environment = {
          SIDECAR_URL: await start(certificate),
          SSL_CERT_FILE: authority,
          SIDECAR_CACHE_DIR: '/nowhere',
        };
        return await startCaller(environment).call({ arguments: [URI] });
      }),
    );
    expect(
      answers.map(({ error }) => /HTTP 500|SSLCertVerificationError/.exec(error?.text ?? '')?.[0]),
    ).toEqual(['HTTP 500', 'SSLCertVerificationError', 'SSLCertVerificationError']);
    expect(asked).toEqual(['/v1/reload']);
  });
});

describe('what is set wrong is a ValueError:', () => {
  test('an address', async () => {
    const caller = startCaller();
    for (const url of [
      'sidecar:5080',
      'ftp://sidecar',
      'http://',
      'http://:5080',
      'http://sidecar:port',
      'http://sidecar:0',
      'http://sidecar:70000',
      'http://[::1',
      'http://me:secret@sidecar',
      'http://side car',
      'http://sidecar/ü',
      'http://a..b:5080',
      'http://sidecar?x=1',
      'http://sidecar/#x',
    ]) {
      const { error } = await caller.call({ arguments: [URI], environment: { SIDECAR_URL: url } });
      const text = 'SIDECAR_URL must be http(s)://host:port, perhaps with a path, and without a user name.';
      expect({ url, ...error }).toEqual({ url, type: 'ValueError', text, code: null });
    }
  });

  test('a token, which is not shown, and times', async () => {
    const caller = startCaller();
    for (const deadline of [0, -1]) {
      const { error } = await caller.call({ arguments: [URI], options: { deadline_s: deadline } });
      expect(error).toMatchObject({ type: 'ValueError', text: expect.stringMatching(/^deadline_s/) });
    }
    const { error } = await caller.call({ arguments: [URI], environment: { SIDECAR_TOKEN: 'se cret' } });
    expect(error).toMatchObject({ type: 'ValueError', text: expect.stringMatching(/^SIDECAR_TOKEN/) });
    expect(error?.text).not.toContain('cret');
  });
});
