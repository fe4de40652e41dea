import { SidecarError } from '../domain/errors.ts';
import type { OpenFile } from './source.ts';
import type { ListedFile } from './walk.ts';

/**
 * A body that ends with its connection looks whole wherever it was cut.
 * @throws SidecarError `artifact_corrupt` where the body cannot be the file that was listed
 */
export function assertComplete(
  file: Pick<ListedFile, 'path' | 'size'>,
  { length, hasEnd }: Pick<OpenFile, 'length' | 'hasEnd'>,
): void {
  if (file.size === null && !hasEnd) {
    throw new SidecarError('artifact_corrupt', `${file.path} has neither a listed size nor a marked end.`, {
      hint: 'Nobody could tell whether it is whole. Let MLflow, or the proxy before it, send Content-Length.',
    });
  }
  if (length === null || file.size === null || length === file.size) return;
  throw new SidecarError(
    'artifact_corrupt',
    `${file.path} has ${length} bytes, but the listing says ${file.size}.`,
    {
      hint: 'The artifact was overwritten after it was logged, or its store is damaged. Log the model again.',
    },
  );
}
