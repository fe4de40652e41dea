import { once } from 'node:events';
import type { Server } from 'node:http';
import { waysToWrite } from '../config/spec.ts';
import { OPTIONS } from '../config/table.ts';

/** Callers that come at once, such as a DAG's mapped tasks, wait in the system rather than for its next try to connect. */
const BACKLOG = 1_024;

interface Address {
  /** Null for every one, of IPv6 too where the machine has it. */
  readonly host: string | null;
  readonly port: number;
}

/** What names the two parts of an address, for a user who is to change one. */
type SetBy = Readonly<Record<keyof Address, string>>;

export const BY_API_OPTIONS: SetBy = { host: waysToWrite(OPTIONS.host), port: waysToWrite(OPTIONS.port) };
export const BY_METRICS_OPTION: SetBy = {
  host: waysToWrite(OPTIONS.metricsAddr),
  port: waysToWrite(OPTIONS.metricsAddr),
};

/** Its cause is the system's error. */
export class ListenFailure extends Error {
  readonly at: Address;
  readonly setBy: SetBy;

  constructor(at: Address, setBy: SetBy, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.at = at;
    this.setBy = setBy;
  }
}

/** @throws ListenFailure where nobody can listen there */
export async function listen(server: Server, at: Address, setBy: SetBy): Promise<void> {
  try {
    server.listen({ port: at.port, ...(at.host === null ? {} : { host: at.host }), backlog: BACKLOG });
    await once(server, 'listening');
  } catch (error) {
    throw new ListenFailure(at, setBy, error);
  }
}
