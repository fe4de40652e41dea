/** A whole answer, before any fault is done to it. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export function json(value: unknown, status = 200): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(value, null, 2)),
  };
}

export function text(body: string, type = 'text/plain; charset=utf-8', status = 200): Answer {
  return { status, headers: { 'content-type': type }, body: Buffer.from(body) };
}

/** MLflow's own shape of an error. */
export function mlflowError(status: number, code: string, message: string): Answer {
  return json({ error_code: code, message, sqlstate: 'KAM00', error_class: code }, status);
}

export function missing(message: string): Answer {
  return mlflowError(404, 'RESOURCE_DOES_NOT_EXIST', message);
}

export function invalid(message: string): Answer {
  return mlflowError(400, 'INVALID_PARAMETER_VALUE', message);
}
