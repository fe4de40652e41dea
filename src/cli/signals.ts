import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 5;

export type EndSignal = 'SIGTERM' | 'SIGINT';

export interface Signals {
  /** Comes with the first signal; aborts `signal` too. */
  readonly first: Promise<EndSignal>;
  readonly signal: AbortSignal;
}

/** The first signal asks for an orderly end, within `graceMs`; the second, or the end of that time, is the end. */
export function listenForSignals(graceMs: number): Signals {
  const controller = new AbortController();
  const first = new Promise<EndSignal>(resolve => {
    const onSignal = (name: EndSignal): void => {
      if (controller.signal.aborted) endNow(name);
      controller.abort(new Error(`stopped by ${name}`));
      setTimeout(() => endNow(name), graceMs).unref();
      resolve(name);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
  return { first, signal: controller.signal };
}

/** As a shell reports a process that a signal ended. */
export function exitCodeOf(name: EndSignal): number {
  return 128 + constants.signals[name];
}

function endNow(name: EndSignal): void {
  if (areThreadsBusy()) endBySignal(name);
  else process.exit(exitCodeOf(name));
}

/** Whether a thread is at work on a file or a name: where that hangs, `process.exit` waits for it for ever. */
function areThreadsBusy(): boolean {
  return process.getActiveResourcesInfo().some(name => /^(?:FSReq|GetAddrInfoReq)/.test(name));
}

/** Whether they still are after `ms` milliseconds. */
export async function areThreadsHung(ms: number): Promise<boolean> {
  for (const end = performance.now() + ms; areThreadsBusy(); await delay(POLL_MS)) {
    if (performance.now() >= end) return true;
  }
  return false;
}

/** The end for a process whose `process.exit` would wait for ever, since a thread is stuck in a system call. */
export function endBySignal(name: EndSignal): void {
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}
