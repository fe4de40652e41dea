import { type ErrorCode, toSidecarError } from '../domain/errors.ts';

/** Deep enough for any real chain; a chain may also be a ring. */
const MAX_CAUSES = 8;

export interface ErrorFields {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly hint?: string;
  /** The messages of what led to it, the nearest first. */
  readonly causes?: readonly string[];
  /** Only where nobody foresaw the error. */
  readonly stack?: string;
}

/** What a log line says about an error: its code and words, never its other properties, where requests and headers hide. */
export function errorFields(thrown: unknown): ErrorFields {
  const error = toSidecarError(thrown);
  const causes = causesOf(error);
  // An error that nobody foresaw comes wrapped: the stack that helps is the original's.
  const origin = thrown instanceof Error ? thrown : error;
  return {
    code: error.code,
    reason: error.message,
    ...(error.hint === null ? {} : { hint: error.hint }),
    ...(causes.length === 0 ? {} : { causes }),
    ...(error.code === 'internal' && origin.stack !== undefined ? { stack: origin.stack } : {}),
  };
}

function causesOf(error: Error): string[] {
  const messages: string[] = [];
  let current = error.cause;
  for (let depth = 0; depth < MAX_CAUSES && current !== undefined && current !== null; depth += 1) {
    messages.push(...wordsOf(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return messages.filter(
    (message, index) => message !== error.message && messages.indexOf(message) === index,
  );
}

function wordsOf(value: unknown): string[] {
  if (value instanceof AggregateError) {
    const members: readonly unknown[] = value.errors;
    const inner = members
      .slice(0, MAX_CAUSES)
      .map(member => (member instanceof Error ? member.message : String(member)));
    return [value.message, ...inner].filter(text => text !== '');
  }
  return [value instanceof Error ? value.message : String(value)];
}
