/**
 * Does `cleanUp` (synchronous, it must not throw) when this process exits, however that comes about but SIGKILL; or earlier,
 * when the function that is given back is called. Once in all.
 */
export function atExit(cleanUp: () => void): () => void {
  if (cleanUps.size === 0) process.once('exit', doAll);
  const once = () => {
    if (cleanUps.delete(once)) cleanUp();
    if (cleanUps.size === 0) process.off('exit', doAll);
  };
  cleanUps.add(once);
  return once;
}

const cleanUps = new Set<() => void>();

function doAll(): void {
  for (const once of cleanUps) once();
}

/** Makes a signal an exit, so that what `atExit` was given is done. */
export function exitOnSignals(): void {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => process.exit(code));
  }
}
