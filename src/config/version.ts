import { readFileSync } from 'node:fs';

/** This package's version. */
export function packageVersion(): string {
  // Two directories up from src/config and from dist/config alike.
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : '';
}
