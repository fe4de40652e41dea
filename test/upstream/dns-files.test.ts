import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { parseHosts, parseResolvConf, SystemFile } from '../../src/upstream/dns-files.ts';
import { atMost } from '../support/limits.ts';

async function directory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-dns-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

test('resolv.conf as Kubernetes writes it', () => {
  const text = `search prod.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5 timeout:2
`;
  expect(parseResolvConf(text)).toEqual({
    servers: ['10.96.0.10'],
    search: ['prod.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
    ndots: 5,
  });
});

test('resolv.conf with everything odd', () => {
  const text = `# comment
; another
domain example.test
nameserver fe80::1%eth0
nameserver not-an-address
\tnameserver   192.0.2.1   # trailing
search a.test. b.test
options rotate
options ndots:2 edns0`;
  expect(parseResolvConf(text)).toEqual({
    servers: ['fe80::1%eth0', '192.0.2.1'],
    search: ['a.test', 'b.test'],
    ndots: 2,
  });
});

test('an empty resolv.conf names nothing', () => {
  expect(parseResolvConf('')).toEqual({ servers: [], search: [], ndots: 1 });
});

test('a hosts file', () => {
  const text = `127.0.0.1 localhost
# comment
10.0.0.5\tMLflow mlflow.internal  # ours
fd00::5 mlflow
broken line
`;
  expect(parseHosts(text)).toEqual(
    new Map([
      ['localhost', [{ address: '127.0.0.1', family: 4 }]],
      [
        'mlflow',
        [
          { address: '10.0.0.5', family: 4 },
          { address: 'fd00::5', family: 6 },
        ],
      ],
      ['mlflow.internal', [{ address: '10.0.0.5', family: 4 }]],
    ]),
  );
});

test('a file is known at once, and one that is absent is what was said for it', async () => {
  const path = join(await directory(), 'file');
  await writeFile(path, 'one');
  expect(await new SystemFile(path, text => text, 'none').content()).toBe('one');
  expect(await new SystemFile(`${path}-not`, text => text, 'none').content()).toBe('none');
});

test('a file on a disk that hangs holds nobody up', async () => {
  const path = join(await directory(), 'fifo');
  await promisify(execFile)('mkfifo', [path]);
  const file = new SystemFile(path, text => text, 'none');
  const startedAt = performance.now();
  expect(await file.content()).toBe('none');
  expect(await file.content()).toBe('none');
  expect(performance.now() - startedAt).toBeLessThan(atMost(2_000));
  // Lets the thread go that waits for a writer.
  await (await open(path, 'r+')).close();
});
