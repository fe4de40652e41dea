import { createHash } from 'node:crypto';
import { SidecarError } from './errors.ts';

/** One file of a model. `path` is relative, its parts separated by `/`; `sha256` in lower-case hex. */
export interface ManifestFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly files: readonly ManifestFile[];
  /** `sha256:` and the hash over the sorted lines `path\0size\0sha256\n`. */
  readonly digest: string;
  readonly bytes: number;
}

export function manifestOf(files: readonly ManifestFile[]): Manifest {
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const hash = createHash('sha256');
  for (const file of sorted) hash.update(`${file.path}\0${file.size}\0${file.sha256}\n`);
  const bytes = sorted.reduce((sum, file) => sum + file.size, 0);
  return { files: sorted, digest: `sha256:${hash.digest('hex')}`, bytes };
}

/** @param found what there is of it, in words for a number of bytes */
export function wrongSize(found: string, expected: number): SidecarError {
  return new SidecarError(
    'artifact_corrupt',
    `An artifact has ${found} bytes, but the listing says ${expected}.`,
    {
      hint: 'The transfer was cut, or the artifact was overwritten after it was logged.',
    },
  );
}
