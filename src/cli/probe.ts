import { ask, problemOf, type Sidecar } from './client.ts';
import { type ExitCode, FAILED } from './failure.ts';

/** Below what kubelets and container engines are told to wait. */
const TIMEOUT_MS = 3_000;

/**
 * Asks as a kubelet does, where only a command can: for `exec` probes and an image's HEALTHCHECK.
 * @throws CommandFailure where no answer comes in time
 */
export async function probe(sidecar: Sidecar, path: '/healthz' | '/readyz'): Promise<ExitCode> {
  const answer = await ask(sidecar, {
    method: 'GET',
    path,
    accept: 'application/json',
    timeoutMs: TIMEOUT_MS,
  });
  const words = answer.status === 200 ? 'is well' : problemOf(answer);
  process.stdout.write(`${sidecar.url}${path} ${words}\n`);
  return answer.status === 200 ? 0 : FAILED;
}
