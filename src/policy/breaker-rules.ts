import type { ErrorCode, SidecarError } from '../domain/errors.ts';

export interface BreakerLimits {
  /** So many failed tries in a row open it. */
  readonly failures: number;
  /** For how long it stays open, in milliseconds. */
  readonly resetMs: number;
}

/**
 * What is known of one server. A request belongs to the generation that it was begun in; whatever a later change of
 * state made old is ignored, so that an answer from before the opening closes nothing.
 */
export type Circuit = { readonly generation: number; readonly failures: number } & (
  | { readonly state: 'closed' }
  /** @property until on the monotonic clock, in milliseconds */
  | { readonly state: 'open'; readonly until: number }
  | { readonly state: 'half-open'; readonly hasTrial: boolean }
);

/** Neutral: it tells nothing about the server, such as a definite 404, or a caller that left. */
export type Ending = 'success' | 'failure' | 'neutral';

export const INITIAL: Circuit = { state: 'closed', generation: 0, failures: 0 };

/** The circuit at `now`: an opening that is over leaves it half-open. */
export function at(circuit: Circuit, now: number): Circuit {
  if (circuit.state !== 'open' || now < circuit.until) return circuit;
  const { generation, failures } = circuit;
  return { state: 'half-open', generation: generation + 1, failures, hasTrial: false };
}

export function admits(circuit: Circuit): boolean {
  return circuit.state === 'closed' || (circuit.state === 'half-open' && !circuit.hasTrial);
}

/** After a request that it admits was begun; half-open, that one is the trial, with a generation of its own. */
export function begun(circuit: Circuit): Circuit {
  if (circuit.state !== 'half-open') return circuit;
  return { ...circuit, generation: circuit.generation + 1, hasTrial: true };
}

/** After a request of `generation` ended. */
export function ended(
  circuit: Circuit,
  generation: number,
  ending: Ending,
  limits: BreakerLimits,
  now: number,
): Circuit {
  const isLate = generation !== circuit.generation;
  if (isLate || circuit.state === 'open' || (circuit.state === 'half-open' && !circuit.hasTrial))
    return circuit;
  switch (ending) {
    case 'success':
      return { state: 'closed', generation: nextAfterTrial(circuit), failures: 0 };
    case 'neutral':
      return circuit.state === 'closed'
        ? circuit
        : { ...circuit, generation: nextAfterTrial(circuit), hasTrial: false };
    case 'failure': {
      const failures = circuit.failures + 1;
      if (circuit.state === 'closed' && failures < limits.failures) return { ...circuit, failures };
      return { state: 'open', generation: generation + 1, failures, until: now + limits.resetMs };
    }
  }
}

function nextAfterTrial({ state, generation }: Circuit): number {
  return state === 'half-open' ? generation + 1 : generation;
}

const FAILURES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_timeout',
  'mlflow_error',
  'artifact_timeout',
]);

/** Whether an error speaks against the server's health; where it does not say so itself, its code does. */
export function isServerFault(error: SidecarError): boolean {
  return error.serverFault ?? FAILURES.has(error.code);
}
