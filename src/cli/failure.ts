/** 0 ok, 1 failed, 2 usage or configuration; after a signal 128 and its number. */
export type ExitCode = number;

export const FAILED = 1;
export const USAGE = 2;

/** Ends a command with words for the user, who sees no stack. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = FAILED, cause?: unknown) {
    super(message, { cause });
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
  }
}
