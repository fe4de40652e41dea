import type { Outcome } from '../../src/domain/outcome.ts';

/** An outcome as in the documentation's example. */
export function outcome(overrides: Partial<Outcome> = {}): Outcome {
  return {
    status: 'loaded',
    model_uri: 'models:/topic-classification/Production',
    mlflow_uri: 'http://mlflow:5000',
    name: 'topic-classification',
    version: '2',
    wanted_version: null,
    previous_version: '1',
    changed: true,
    stage: 'Production',
    aliases: ['champion'],
    run_id: 'abc123',
    model_id: null,
    created: 1_731_358_595,
    path: '/cache/v1/snapshots/s1',
    ref_path: '/cache/v1/models/topic-classification/Production',
    digest: 'sha256:00',
    files: 7,
    bytes: 48_318,
    source: 'mlflow',
    age_s: 0,
    duration_s: 0.41,
    attempts: 1,
    breaker: 'closed',
    refreshing: false,
    job_id: null,
    warning: null,
    request_id: 'r1',
    ...overrides,
  };
}
