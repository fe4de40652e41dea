import { join } from 'node:path';
import { systemClock as clock } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { Harm, Scrubbed } from '../store/verify/scrub.ts';
import { verifyCache } from '../store/verify/verify.ts';
import { CommandFailure, type ExitCode, FAILED, USAGE } from './failure.ts';
import { exitCodeOf, listenForSignals } from './signals.ts';

/** To finish the file that is being moved, after the first signal. */
const GRACE_MS = 5_000;

/** Verifies the cache directory, and takes what is damaged out of readers' way. */
export async function verify(cacheDir: string): Promise<ExitCode> {
  const signals = listenForSignals(GRACE_MS);
  const startedAt = clock.monotonic();
  let isMoved = true;
  say(`Verifying ${join(cacheDir, 'v1')}: every snapshot and every blob, by size and sha256.`);
  try {
    const onHarm = (harm: Harm, problem: SidecarError | null): void => {
      tell(harm, problem);
      if (problem !== null || harm.unreadable.length > 0) isMoved = false;
    };
    const scrubbed = await verifyCache(cacheDir, { clock, signal: signals.signal, onHarm });
    if (scrubbed === null) throw new CommandFailure(`there is no cache in ${cacheDir}.`, USAGE);
    say(summaryOf(scrubbed, clock.monotonic() - startedAt, isMoved));
    return scrubbed.damaged === 0 ? 0 : FAILED;
  } catch (error) {
    if (signals.signal.aborted) return exitCodeOf(await signals.first);
    throw error;
  }
}

function tell({ damages, snapshots, modelUris }: Harm, problem: SidecarError | null): void {
  for (const { path, found } of damages) say(`❌ ${path} ${found}`);
  if (damages.some(({ isUnreadable }) => isUnreadable))
    say('⚠️ It stays, since the disk only fails to give it. Look at the disk, then reload with force.');
  if (snapshots.length > 0) say(`   Version: ${snapshots.join(', ')}`);
  say(`   Model URIs: ${modelUris.length === 0 ? 'none' : modelUris.join(', ')}`);
  if (problem !== null) say(`⚠️ It could not be moved to the quarantine: ${problem.message}`);
}

function summaryOf({ files, bytes, damaged }: Scrubbed, ms: number, isMoved: boolean): string {
  const what = `${files} files, ${bytes} bytes in ${(ms / 1_000).toFixed(1)} s`;
  if (damaged === 0) return `✅ All is well: ${what}`;
  const next = isMoved
    ? 'It was taken away; the next reload fetches what was not made anew here.'
    : 'Not all of it could be taken away.';
  return `❌ Damaged: ${damaged}; read: ${what}. ${next}`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
