import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { atExit } from '../at-exit.ts';
import { reload } from '../reload.ts';
import { ScriptedMlflow } from '../scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../sidecar.ts';

const GENERATOR = fileURLToPath(new URL('./generator.ts', import.meta.url));
const MODELS = 5;
const PROBE_MS = 50;
/** An overload is one that stays; what comes in the first seconds is taken for a burst. */
const ONSET_S = 4;
/** How many times the base is offered. */
const FACTOR = 10;

const Summary = z.object({ count: z.number(), p50: z.number(), p99: z.number(), max: z.number() });
const Load = z.object({
  accepted: Summary,
  refused: Summary,
  /** Anything but 200 and 503, by what it was. */
  other: z.record(z.string(), z.number()),
  seconds: z.number(),
  sent: z.number(),
  /** What the generator could not offer, all its connections being in use. */
  unsent: z.number(),
});

export interface OverloadResult {
  readonly basePerSecond: number;
  readonly baseP50Ms: number;
  readonly baseP99Ms: number;
  readonly offeredPerSecond: number;
  readonly acceptedP50Ms: number;
  readonly acceptedP99Ms: number;
  readonly refusedP50Ms: number;
  readonly refusedP99Ms: number;
  readonly healthzP50Ms: number;
  readonly healthzP99Ms: number;
  readonly accepted: number;
  readonly refused: number;
  /** Answers that were neither, by what they were. */
  readonly other: Readonly<Record<string, number>>;
  readonly rssStartMb: number;
  readonly rssEndMb: number;
  /**
   * The share of the time under load in which the sidecar had work and no core to do it on, since other processes had them. Where
   * that is more than a little, the tails of these times tell of the machine.
   */
  readonly waitedForCore: number;
}

/**
 * Measures what a built sidecar sustains (ten callers in a closed loop), then offers it ten times as much, in an open loop, for
 * so many seconds. The first four seconds of that are the onset and not measured.
 */
export async function overloadRun({ seconds }: { readonly seconds: number }): Promise<OverloadResult> {
  const upstream = await ScriptedMlflow.start();
  const modelUris = Array.from({ length: MODELS }, (_, n) => {
    upstream.addVersion({ name: `model-${n}`, stage: 'Production', files: { MLmodel: `n: ${n}` } });
    return `models:/model-${n}/Production`;
  });
  const sidecar = await startSidecar(upstream.env);
  try {
    for (const uri of modelUris) await reload(sidecar.url, uri);
    const target = { port: Number(new URL(sidecar.url).port), modelUris };
    const base = await measured(sidecar, {
      ...target,
      seconds: Math.min(12, seconds),
      skipSeconds: 2,
      inFlight: 10,
    });
    const basePerSecond = base.accepted.count / base.seconds;
    const offered = { ...target, perSecond: FACTOR * basePerSecond, skipSeconds: ONSET_S };
    const load = await measured(sidecar, { ...offered, seconds: seconds + ONSET_S });
    return {
      basePerSecond,
      baseP50Ms: base.accepted.p50,
      baseP99Ms: base.accepted.p99,
      offeredPerSecond: load.sent / (seconds + ONSET_S),
      acceptedP50Ms: load.accepted.p50,
      acceptedP99Ms: load.accepted.p99,
      refusedP50Ms: load.refused.p50,
      refusedP99Ms: load.refused.p99,
      accepted: load.accepted.count,
      refused: load.refused.count,
      other: load.other,
      healthzP50Ms: load.healthzP50Ms,
      healthzP99Ms: load.healthzP99Ms,
      rssStartMb: load.rssStartMb,
      rssEndMb: load.rssEndMb,
      waitedForCore: load.waitedForCore,
    };
  } finally {
    await Promise.all([sidecar.stop(), upstream.close()]);
  }
}

interface Plan {
  readonly port: number;
  readonly modelUris: readonly string[];
  readonly seconds: number;
  readonly skipSeconds: number;
  readonly inFlight?: number;
  readonly perSecond?: number;
}

/** What the callers saw, and the sidecar meanwhile. */
async function measured(sidecar: RunningSidecar, plan: Plan) {
  const ended = new AbortController();
  const watching = watch(sidecar, plan.skipSeconds * 1_000, ended.signal);
  const load = await generate(plan).finally(() => ended.abort());
  return { ...load, ...(await watching) };
}

async function generate(plan: Plan): Promise<z.infer<typeof Load>> {
  const child = spawn(process.execPath, [GENERATOR, JSON.stringify(plan)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const done = atExit(() => void child.kill('SIGKILL'));
  let text = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) text += String(chunk);
  done();
  return Load.parse(JSON.parse(text));
}

/** Asks `/healthz` on and on, and looks at the memory; the first `skipMs` are left out. */
async function watch({ url, pid }: RunningSidecar, skipMs: number, ended: AbortSignal) {
  const times: number[] = [];
  const waitedBefore = await waitedMs(pid);
  const startedAt = performance.now();
  let rssStartMb: number | null = null;
  let rssEndMb = 0;
  while (!ended.aborted) {
    const askedAt = performance.now();
    const answer = await fetch(`${url}/healthz`);
    await answer.arrayBuffer();
    if (answer.status !== 200) throw new Error(`/healthz answers ${answer.status}`);
    const now = performance.now();
    if (now - startedAt > skipMs) {
      times.push(now - askedAt);
      rssEndMb = await rssMb(pid);
      rssStartMb ??= rssEndMb;
    }
    await delay(PROBE_MS);
  }
  times.sort((a, b) => a - b);
  const [healthzP50Ms = 0, healthzP99Ms = 0] = [0.5, 0.99].map(
    share => times[Math.floor(times.length * share)],
  );
  const waitedForCore = ((await waitedMs(pid)) - waitedBefore) / (performance.now() - startedAt);
  return { healthzP50Ms, healthzP99Ms, rssStartMb: rssStartMb ?? 0, rssEndMb, waitedForCore };
}

async function rssMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
}

/** Milliseconds that the main thread was ready to run and did not; see sched-stats in the kernel's documentation. */
async function waitedMs(pid: number): Promise<number> {
  const [, waitedNs] = (await readFile(`/proc/${pid}/task/${pid}/schedstat`, 'utf8')).split(' ');
  return Number(waitedNs) / 1e6;
}
