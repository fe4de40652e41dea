import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** An authority, and what servers on the loopback may show: made by openssl for one run of the tests. */
export interface Certificates {
  /** The authority's PEM file. */
  readonly authority: string;
  readonly good: Certificate;
  /** Nobody signed it. */
  readonly untrusted: Certificate;
  /** Signed by the authority, but for another host. */
  readonly otherHost: Certificate;
  remove(): Promise<void>;
}

export async function makeCertificates(): Promise<Certificates> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-certificates-'));
  // Python 3.13 wants an authority to say what its key is for, and what it signed to name the key.
  await selfSigned(dir, 'authority', 'basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign');
  await Promise.all([
    signed(dir, 'good', HERE),
    selfSigned(dir, 'untrusted', HERE),
    signed(dir, 'other', 'subjectAltName=DNS:elsewhere.test'),
  ]);
  const [good, untrusted, otherHost] = await Promise.all([
    read(dir, 'good'),
    read(dir, 'untrusted'),
    read(dir, 'other'),
  ]);
  const remove = () => rm(dir, { recursive: true, force: true });
  return { authority: join(dir, 'authority.pem'), good, untrusted, otherHost, remove };
}

async function selfSigned(dir: string, name: string, ...extensions: string[]): Promise<void> {
  const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`];
  const subject = ['-subj', `/CN=${name}`, ...extensions.flatMap(extension => ['-addext', extension])];
  await run('openssl', ['req', '-x509', ...NEW_KEY, ...files, ...subject], { cwd: dir });
}

async function signed(dir: string, name: string, extension: string): Promise<void> {
  await writeFile(join(dir, `${name}.ext`), `${extension}\nauthorityKeyIdentifier=keyid\n`);
  const files = ['-keyout', `${name}.key`, '-out', `${name}.csr`];
  await run('openssl', ['req', ...NEW_KEY, ...files, '-subj', `/CN=${name}`], { cwd: dir });
  const authority = ['-CA', 'authority.pem', '-CAkey', 'authority.key', '-set_serial', `0x${name.length}`];
  const out = ['-in', `${name}.csr`, '-out', `${name}.pem`, '-extfile', `${name}.ext`, '-days', '2'];
  await run('openssl', ['x509', '-req', ...authority, ...out], { cwd: dir });
}

async function read(dir: string, name: string): Promise<Certificate> {
  const [cert, key] = await Promise.all(
    ['pem', 'key'].map(type => readFile(join(dir, `${name}.${type}`), 'utf8')),
  );
  return { cert: cert ?? '', key: key ?? '' };
}
