import { describe, expect, onTestFinished, test } from 'vitest';
import type { Address } from '../../src/upstream/dns.ts';
import type { ResolvConf } from '../../src/upstream/dns-files.ts';
import { candidatesOf } from '../../src/upstream/dns-servers.ts';
import { resolverOf, systemNames } from '../../src/upstream/dns-system.ts';
import { DnsServer } from '../support/dns-server.ts';
import { atMost } from '../support/limits.ts';

const NOWHERE = Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });

interface Spec {
  readonly hosts?: ReadonlyMap<string, readonly Address[]>;
  readonly conf?: Partial<ResolvConf>;
  readonly system?: (host: string) => Promise<readonly Address[]>;
}

/** A resolver over a name server of its own; the system knows nothing unless told. */
async function start({ hosts = new Map(), conf = {}, system }: Spec = {}) {
  const server = await DnsServer.start();
  onTestFinished(() => server.close());
  const asked: string[] = [];
  const resolve = resolverOf({
    hosts: async () => hosts,
    conf: async () => ({ servers: [server.address], search: [], ndots: 1, ...conf }),
    system: async host => {
      asked.push(host);
      if (system === undefined) throw NOWHERE;
      return await system(host);
    },
  });
  const find = async (host: string) => (await resolve(host)).addresses.map(({ address }) => address);
  return { server, resolve, find, asked };
}

describe('a name server', () => {
  test('gives addresses of both families, those of version 4 first, with the shortest TTL', async () => {
    const { server, resolve } = await start();
    server.answer('mlflow.example', { a: ['10.0.0.1', '10.0.0.2'], aaaa: ['fd00::1'], ttl: 17 });
    expect(await resolve('mlflow.example')).toEqual({
      addresses: [
        { address: '10.0.0.1', family: 4 },
        { address: '10.0.0.2', family: 4 },
        { address: 'fd00::1', family: 6 },
      ],
      ttlMs: 17_000,
    });
  });

  test('is asked each time: what it says is kept in one place only', async () => {
    const { server, find } = await start();
    server.answer('mlflow.example', { a: ['10.0.0.1'], ttl: 600 });
    await find('mlflow.example');
    server.answer('mlflow.example', { a: ['10.0.0.9'], ttl: 600 });
    expect(await find('mlflow.example')).toEqual(['10.0.0.9']);
  });

  test('may know an address of version 6 only', async () => {
    const { server, find } = await start();
    server.answer('six.example', { aaaa: ['fd00::6'] });
    expect(await find('six.example')).toEqual(['fd00::6']);
  });

  test('that knows no such name is ENOTFOUND, once the system does not know it either', async () => {
    const { resolve, asked } = await start();
    await expect(resolve('nowhere.example')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(asked).toEqual(['nowhere.example']);
  });

  test('that fails is EAI_AGAIN', async () => {
    const { server, resolve } = await start();
    server.answer('broken.example', 'servfail');
    await expect(resolve('broken.example')).rejects.toMatchObject({ code: 'EAI_AGAIN' });
  });

  test('that is not there is EAI_AGAIN, and not a refused connection to MLflow', async () => {
    const { resolve } = await start({ conf: { servers: ['127.0.0.1:1'] } });
    await expect(resolve('mlflow.example')).rejects.toMatchObject({ code: 'EAI_AGAIN' });
  });

  test('that is silent is ETIMEOUT within 3 s, and no other domain is waited for', async () => {
    const { server, resolve } = await start({ conf: { search: ['a.test', 'b.test'], ndots: 5 } });
    for (const name of ['slow', 'slow.a.test', 'slow.b.test']) server.answer(name, 'silent');
    const startedAt = performance.now();
    await expect(resolve('slow')).rejects.toMatchObject({ code: 'ETIMEOUT' });
    expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
    expect(server.asked.filter(question => !question.endsWith('slow.a.test'))).toEqual([]);
  });
});

describe('short names', () => {
  test('are looked for in the domains of the search list, in their order', async () => {
    const search = ['prod.svc.cluster.test', 'svc.cluster.test', 'cluster.test'];
    const { server, find } = await start({ conf: { search, ndots: 5 } });
    server.answer('mlflow.tracking.svc.cluster.test', { a: ['10.96.0.7'] });
    expect(await find('mlflow.tracking')).toEqual(['10.96.0.7']);
    const names = server.asked.map(question => question.split(' ')[1]);
    expect([...new Set(names)]).toEqual([
      'mlflow.tracking.prod.svc.cluster.test',
      'mlflow.tracking.svc.cluster.test',
    ]);
  });

  test('are found in the next domain where one cannot be asked for', async () => {
    const { server, find } = await start({ conf: { search: ['broken.test', 'good.test'], ndots: 1 } });
    server.answer('mlflow.broken.test', 'servfail');
    server.answer('mlflow.good.test', { a: ['10.0.0.3'] });
    expect(await find('mlflow')).toEqual(['10.0.0.3']);
  });

  test.each([
    ['mlflow', 1, ['mlflow.a.test', 'mlflow.b.test', 'mlflow']],
    ['mlflow.example', 1, ['mlflow.example', 'mlflow.example.a.test', 'mlflow.example.b.test']],
    ['mlflow.example', 5, ['mlflow.example.a.test', 'mlflow.example.b.test', 'mlflow.example']],
    ['mlflow.', 5, ['mlflow']],
    ['x'.repeat(250), 1, ['x'.repeat(250)]],
  ])('%s with ndots %i', (host, ndots, names) => {
    expect(candidatesOf(host, { search: ['a.test', 'b.test'], ndots })).toEqual(names);
  });
});

describe('the hosts file', () => {
  test('goes before all name servers', async () => {
    const hosts = new Map([['mlflow', [{ address: '10.9.9.9', family: 4 as const }]]]);
    const { server, find } = await start({ hosts });
    server.answer('mlflow', { a: ['10.0.0.1'] });
    expect(await find('mlflow')).toEqual(['10.9.9.9']);
    expect(server.asked).toEqual([]);
  });
});

describe('the system', () => {
  const KNOWN: readonly Address[] = [{ address: '10.5.5.5', family: 4 }];

  test('finds what the name servers do not know', async () => {
    const { find } = await start({ system: async () => KNOWN });
    expect(await find('printer.local')).toEqual(['10.5.5.5']);
  });

  test('finds what silent name servers do not say', async () => {
    const { server, find } = await start({ system: async () => KNOWN });
    server.answer('slow.example', 'silent');
    expect(await find('slow.example')).toEqual(['10.5.5.5']);
  });

  test('is not asked for what the name servers know', async () => {
    const { server, find, asked } = await start({ system: async () => KNOWN });
    server.answer('mlflow.example', { a: ['10.0.0.1'] });
    await find('mlflow.example');
    expect(asked).toEqual([]);
  });

  test('that hangs is asked once for a name, and for two names at most', async () => {
    const { resolve, asked } = await start({ system: () => new Promise(() => undefined) });
    const hung = ['a.example', 'a.example', 'b.example'].map(resolve);
    for (const one of hung) one.catch(() => undefined);
    await expect.poll(() => asked.toSorted()).toEqual(['a.example', 'b.example']);
    await expect(resolve('c.example')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    expect(asked).toHaveLength(2);
  });
});

test('localhost needs no file and no server', async () => {
  const { addresses } = await systemNames().find('localhost');
  expect(addresses.map(({ address }) => address)).toEqual(['127.0.0.1', '::1']);
});
