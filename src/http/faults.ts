import { SidecarError } from '../domain/errors.ts';

/** One thing that is wrong with a request. `field` is `body` where it is the body as a whole. */
export interface Fault {
  readonly field: string;
  readonly message: string;
}

/** `invalid_request`, with every fault of the request. */
export class FaultyRequest extends SidecarError {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[], hint?: string) {
    super('invalid_request', faults.map(({ field, message }) => `${field}: ${message}`).join('; '), { hint });
    this.faults = faults;
  }
}

/** A name from outside, fit to be shown. */
export function shown(name: string): string {
  const short = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  return /^[\w.-]+…?$/.test(short) ? short : JSON.stringify(short);
}
