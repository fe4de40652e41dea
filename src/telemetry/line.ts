export type Level = 'debug' | 'info' | 'warn' | 'error';

/** One line of the log, before the logger adds its own fields. */
export interface Line {
  readonly level: Level;
  readonly msg: string;
  readonly fields: Readonly<Record<string, unknown>>;
}
