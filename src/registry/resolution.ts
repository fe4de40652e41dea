import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { ArtifactRoot, ModelVersion } from '../domain/version.ts';
import type { JsonAnswer } from '../upstream/json.ts';

/** What a URI means now. `root` is null where one more question has to be asked for it. */
export interface Resolution {
  readonly version: ModelVersion;
  readonly root: ArtifactRoot | null;
  /** Whether its files may still come or go: what there is of it is given, and never kept for what it will be. */
  readonly isGrowing: boolean;
  /** Of a run: the model that it logged under that name, which is all there is where the run has nothing else there. */
  readonly logged: Resolution | null;
  /** Why this version, though it is the wanted one, cannot be had yet: `version_not_ready`. */
  readonly fault: SidecarError | null;
}

const MISSING_HINT =
  'Check the spelling, and that it is registered in the MLflow that MLFLOW_TRACKING_URI names.';

export function stageHint(stage: string): string {
  return `This may be expected if no model is in ${stage} stage yet.`;
}

/** The body of a success; a definite 400 or 404 becomes `code`, with MLflow's own words. */
export function definite(answer: JsonAnswer, code: ErrorCode, what: string, hint = MISSING_HINT): unknown {
  if (answer.status < 400) return answer.body;
  throw new SidecarError(code, `${what}: ${answer.message ?? 'not found'}`, { hint });
}
