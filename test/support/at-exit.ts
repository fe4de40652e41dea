/**
 * Does `cleanUp` (synchronous, it must not throw) when this process exits, however that comes about but SIGKILL; or earlier,
 * when the function that is given back is called. Once in all.
 */
export function atExit(cleanUp: () => void): () => void {
  const once = () => {
    process.off('exit', once);
    cleanUp();
  };
  process.on('exit', once);
  return once;
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
