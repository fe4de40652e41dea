import type { RequestHandler } from 'express';
import { SidecarError } from '../../domain/errors.ts';

/** MLflow's client looks for these words: it then sends no spans by themselves any more, but each trace whole. */
const WORDS = 'REST OTLP span logging is not supported by the sidecar.';

/** Spans by themselves do not pass: they come in OpenTelemetry's protocol, beside MLflow's API. */
export const refuseSpans: RequestHandler = () => {
  throw new SidecarError('not_implemented', WORDS, {
    hint: 'Traces pass by /api/3.0/mlflow/traces, with their spans as an artifact.',
  });
};
