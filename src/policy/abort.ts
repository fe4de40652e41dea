/**
 * Runs `work` with a signal that aborts with its parent or after `ms`, whichever is first, and leaves neither a timer
 * nor a listener behind. With an infinite `ms` that is its parent.
 * @throws what `timeoutError` makes, once `ms` milliseconds are over
 */
export async function withTimeout<T>(
  ms: number,
  parent: AbortSignal,
  timeoutError: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  parent.throwIfAborted();
  if (ms === Number.POSITIVE_INFINITY) return await work(parent);
  const controller = new AbortController();
  const follow = () => controller.abort(parent.reason);
  const timer = setTimeout(() => controller.abort(timeoutError()), ms);
  parent.addEventListener('abort', follow, { once: true });
  try {
    return await work(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
    parent.removeEventListener('abort', follow);
  }
}

/** Resolves after `ms` milliseconds; rejects with a signal's reason as soon as one aborts. */
export async function delay(ms: number, ...signals: readonly AbortSignal[]): Promise<void> {
  for (const signal of signals) signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const wake = ({ target }: Event) => reject(target instanceof AbortSignal ? target.reason : undefined);
  for (const signal of signals) signal.addEventListener('abort', wake, { once: true });
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    for (const signal of signals) signal.removeEventListener('abort', wake);
  }
}

export const TOO_LATE = Symbol('too late');

/** What `promise` gives, or `TOO_LATE` after `ms` milliseconds. The work behind the promise goes on. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | typeof TOO_LATE> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof TOO_LATE>(resolve => {
    timer = setTimeout(() => resolve(TOO_LATE), Math.max(0, ms));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What `promise` gives, or the signal's reason as soon as that aborts. The work behind the promise goes on. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const wake = () => reject(signal.reason);
  signal.addEventListener('abort', wake, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', wake);
  }
}

/** For timers: does `work` unless the last time is not over yet, as on a disk that hangs. Errors are nobody's business. */
export function unlessRunning(work: () => Promise<unknown>): () => void {
  let isRunning = false;
  return () => {
    if (isRunning) return;
    isRunning = true;
    work()
      .catch(() => undefined)
      .finally(() => {
        isRunning = false;
      });
  };
}

/** Stands in `line` until somebody there calls it; leaves it, with the signal's reason, as soon as that aborts. */
export async function inLine(line: Set<() => void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const leave = () => {
    line.delete(resolve);
    reject(signal.reason);
  };
  line.add(resolve);
  signal.addEventListener('abort', leave, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
