import { readFileSync } from 'node:fs';
import type { Options, Secret } from '../config/options.ts';
import { Scrubber } from './scrub.ts';

/** A scrubber that knows every secret of the configuration; files as they are now. At the start only: it reads them at once. */
export function scrubberOf({ token, mlflow }: Options): Scrubber {
  const scrubber = new Scrubber();
  if (token !== null) scrubber.know(token);
  const mlflowToken = textOf(mlflow.credentials.token);
  if (mlflowToken !== null) scrubber.know(mlflowToken);
  const password = textOf(mlflow.credentials.password);
  if (password !== null) scrubber.knowPair(textOf(mlflow.credentials.username) ?? '', password);
  for (const address of [mlflow.proxy.http, mlflow.proxy.https]) {
    const proxy = address === null ? null : URL.parse(address);
    if (proxy !== null && proxy.password !== '')
      scrubber.knowPair(unescaped(proxy.username), unescaped(proxy.password));
  }
  return scrubber;
}

function textOf(secret: Secret | null): string | null {
  if (secret === null) return null;
  if ('value' in secret) return secret.value;
  try {
    return readFileSync(secret.file, 'utf8').trim();
  } catch {
    return null;
  }
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
