import type { ErrorCode, SidecarError } from '../domain/errors.ts';

export interface BreakerLimits {
  /** So many failed tries in a row open it. */
  readonly failures: number;
  /** For how long it stays open, in milliseconds. */
  readonly resetMs: number;
}

/** What a request is about. */
export interface Subject {
  /** One question or one version. However often its answer is an error, that counts once in a row. */
  readonly item: string;
  /** Requests of one name were made together: where the server is not there, that counts once for all of them. */
  readonly together?: string | undefined;
}

/** Of what is remembered of a row. */
const MOST_CAUSES = 100;
/** For so long after a circuit became half-open, other items that were asked for are tried before one whose answer was an error. */
const PRECEDENCE_MS = 5_000;

/**
 * What is known of one server. A request belongs to the generation that it was begun in; whatever a later change of
 * state made old is ignored, so that an answer from before the opening closes nothing.
 */
export type Circuit = {
  readonly generation: number;
  readonly failures: number;
  /** Of the failures in a row, as `causeOf` names them. */
  readonly causes: readonly string[];
} & (
  | { readonly state: 'closed' }
  /**
   * @property until on the monotonic clock, in milliseconds
   * @property isAwaited whether somebody asked for something else than what failed
   */
  | { readonly state: 'open'; readonly until: number; readonly isAwaited: boolean }
  /** @property since on the monotonic clock, in milliseconds */
  | {
      readonly state: 'half-open';
      readonly since: number;
      readonly hasTrial: boolean;
      readonly isAwaited: boolean;
    }
);

/** Neutral: it tells nothing about the server, such as a definite 404, or a caller that left. */
export type Ending = 'success' | 'failure' | 'neutral';

export const INITIAL: Circuit = { state: 'closed', generation: 0, failures: 0, causes: [] };

/** The circuit at `now`: an opening that is over leaves it half-open. */
export function at(circuit: Circuit, now: number): Circuit {
  return circuit.state === 'open' && now >= circuit.until ? halfOpened(circuit, circuit.until) : circuit;
}

/** An open circuit whose server shows that it is well before the time is over. */
export function halfOpened(circuit: Circuit, now: number): Circuit {
  if (circuit.state !== 'open') return circuit;
  const { until: _, ...rest } = circuit;
  return { ...rest, state: 'half-open', generation: circuit.generation + 1, since: now, hasTrial: false };
}

/** After it did not admit a request for an item. */
export function refused(circuit: Circuit, item: string | null): Circuit {
  if (circuit.state === 'closed' || circuit.isAwaited || isCause(circuit, item)) return circuit;
  return { ...circuit, isAwaited: true };
}

function isCause({ causes }: Circuit, item: string | null): boolean {
  return item !== null && causes.includes(itemCause(item));
}

/** @param item what the request is about; null where nobody says */
export function admits(circuit: Circuit, now: number, item: string | null = null): boolean {
  if (circuit.state === 'closed') return true;
  if (circuit.state === 'open' || circuit.hasTrial) return false;
  return !circuit.isAwaited || !isCause(circuit, item) || now >= circuit.since + PRECEDENCE_MS;
}

/** After a request that it admits was begun; half-open, that one is the trial, with a generation of its own. */
export function begun(circuit: Circuit): Circuit {
  if (circuit.state !== 'half-open') return circuit;
  return { ...circuit, generation: circuit.generation + 1, hasTrial: true };
}

/**
 * After a request of `generation` ended.
 * @param cause of a failure: what has failed already in this row counts no second time, and decides no trial that others wait for; null counts each time
 */
export function ended(
  circuit: Circuit,
  generation: number,
  ending: Ending,
  limits: BreakerLimits,
  now: number,
  cause: string | null = null,
): Circuit {
  const isLate = generation !== circuit.generation;
  if (isLate || circuit.state === 'open' || (circuit.state === 'half-open' && !circuit.hasTrial))
    return circuit;
  switch (ending) {
    case 'success':
      return { state: 'closed', generation: nextAfterTrial(circuit), failures: 0, causes: [] };
    case 'neutral':
      return circuit.state === 'closed'
        ? circuit
        : { ...circuit, generation: nextAfterTrial(circuit), hasTrial: false };
    case 'failure': {
      const isKnown = cause !== null && circuit.causes.includes(cause);
      if (isKnown && circuit.state === 'closed') return circuit;
      const isAwaited = circuit.state === 'half-open' && circuit.isAwaited;
      if (isKnown && isAwaited && cause.startsWith(ITEM))
        return { ...circuit, generation: generation + 1, since: now, hasTrial: false };
      const failures = circuit.failures + 1;
      const causes = cause === null ? circuit.causes : [...circuit.causes, cause].slice(-MOST_CAUSES);
      if (circuit.state === 'closed' && failures < limits.failures) return { ...circuit, failures, causes };
      const until = now + limits.resetMs;
      return { state: 'open', generation: generation + 1, failures, causes, until, isAwaited };
    }
  }
}

function nextAfterTrial({ state, generation }: Circuit): number {
  return state === 'half-open' ? generation + 1 : generation;
}

const ITEM = 'item ';

function itemCause(item: string): string {
  return ITEM + item;
}

/** That an answer came, though it was an error, is about what was asked; that none came, or only that nobody is served, is about the server. */
const ANSWERED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['mlflow_error', 'artifact_corrupt']);

/** What a failure is counted by; null where each counts. */
export function causeOf({ code, unavailable }: SidecarError, about: Subject | null): string | null {
  if (about === null) return null;
  if (ANSWERED.has(code) && !unavailable) return itemCause(about.item);
  return about.together === undefined ? null : `together ${about.together}`;
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
