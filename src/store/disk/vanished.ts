import { SidecarError } from '../../domain/errors.ts';

/** Another process removed something that was about to be published: what is missing has to be fetched again. */
export class Vanished extends SidecarError {
  constructor(cause?: unknown) {
    super('internal', 'A part of the version was removed from the cache before it was published.', {
      hint: 'Ask again.',
      cause,
    });
    this.name = 'Vanished';
  }
}
