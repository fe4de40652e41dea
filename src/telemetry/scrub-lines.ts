import type { SidecarEvent } from '../domain/events.ts';
import { errorFields } from './error-fields.ts';
import type { Line } from './line.ts';

type Damaged = SidecarEvent & { type: 'blob_damaged' };
type Finished = SidecarEvent & { type: 'scrub_finished' };

/** Words on what the background verification of the cache found. */
export function scrubLine(event: Damaged | Finished): Line {
  return event.type === 'blob_damaged' ? damaged(event) : finished(event);
}

function damaged({ path, sha256, size, found, snapshots, modelUris, error }: Damaged): Line {
  const uris = modelUris.length === 0 ? 'no model' : modelUris.join(', ');
  const next =
    error === null
      ? 'It was moved to state/quarantine; what is intact beside it is kept, the rest is fetched again.'
      : `It could not be moved (${errorFields(error).reason}), but this sidecar does not give it any more.`;
  return {
    level: 'error',
    msg: `In the cache ${path} ${found}. It is part of ${uris}. ${next}`,
    fields: { path, sha256, size, found, snapshots, model_uris: modelUris },
  };
}

function finished({ files, bytes, damaged: count, durationMs }: Finished): Line {
  const seconds = Math.round(durationMs / 1_000);
  return {
    level: 'info',
    msg: `Verified the cache: ${files} files, ${bytes} bytes in ${seconds} s; damaged: ${count}.`,
    fields: { files, bytes, damaged: count, duration_ms: Math.round(durationMs) },
  };
}
