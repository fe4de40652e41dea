import { readFile } from 'node:fs/promises';
import type { CredentialSource } from '../config/options.ts';

type Secret = NonNullable<CredentialSource['token']>;

/** The sidecar's own credential for MLflow, from values or from files that may be rotated. */
export class Credentials {
  readonly #source: CredentialSource;
  #header: Promise<string | null>;

  constructor(source: CredentialSource) {
    this.#source = source;
    this.#header = headerOf(source);
    this.#header.catch(() => undefined);
  }

  /** The `Authorization` header, or null where none is configured. */
  header(): Promise<string | null> {
    return this.#header;
  }

  /** Reads the files again after a refusal; whether the header is another now. */
  async renew(): Promise<boolean> {
    const before = await this.#header.catch(() => null);
    const now = await headerOf(this.#source).catch(() => before);
    this.#header = Promise.resolve(now);
    return now !== before;
  }
}

/** As MLflow's client does it: user name and password before the token. */
async function headerOf(source: CredentialSource): Promise<string | null> {
  const [username, password] = [await read(source.username), await read(source.password)];
  if (username !== null && password !== null) {
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }
  const token = await read(source.token);
  return token === null ? null : `Bearer ${token}`;
}

async function read(secret: Secret | null): Promise<string | null> {
  if (secret === null) return null;
  return 'file' in secret ? (await readFile(secret.file, 'utf8')).trim() : secret.value;
}
