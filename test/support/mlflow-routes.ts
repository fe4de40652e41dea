/**
 * What MLflow 3.17 answers (`get_endpoints()` of its `mlflow/server/handlers.py`, and the routes of its `server/auth` and
 * `server/fastapi_app.py`), with `x` for what a client names. What a client may read through a proxy that changes nothing:
 */
export const READS: readonly string[] = [
  'GET /api/2.0/mlflow-artifacts/artifacts',
  'GET /api/2.0/mlflow-artifacts/artifacts/x',
  'GET /api/2.0/mlflow/experiments/search',
  'GET /api/2.0/mlflow/logged-models/x',
  'GET /api/2.0/mlflow/model-versions/get',
  'GET /api/2.0/mlflow/model-versions/get-download-uri',
  'GET /api/2.0/mlflow/model-versions/search',
  'GET /api/2.0/mlflow/registered-models/alias',
  'GET /api/2.0/mlflow/registered-models/get',
  'GET /api/2.0/mlflow/registered-models/get-latest-versions',
  'GET /api/2.0/mlflow/registered-models/search',
  'GET /api/2.0/mlflow/runs/get',
  'GET /api/3.0/mlflow/server-info',
  'POST /api/2.0/mlflow/experiments/search',
  'POST /api/2.0/mlflow/logged-models/search',
  'POST /api/2.0/mlflow/registered-models/get-latest-versions',
  'POST /api/2.0/mlflow/runs/search',
];

const OTHERS = {
  GET: `
    2.0/mlflow-artifacts/presigned/x 2.0/mlflow/artifacts/list 2.0/mlflow/experiments/get
    2.0/mlflow/experiments/get-by-name 2.0/mlflow/get-online-trace-details
    2.0/mlflow/logged-models/x/artifacts/directories 2.0/mlflow/metrics/get-history
    2.0/mlflow/metrics/get-history-bulk-interval 2.0/mlflow/traces 2.0/mlflow/traces/x/info
    2.0/mlflow/unified-traces 2.0/mlflow/users/get 2.0/mlflow/webhooks 2.0/mlflow/webhooks/x
    3.0/mlflow/datasets/search 3.0/mlflow/datasets/x 3.0/mlflow/datasets/x/experiment-ids
    3.0/mlflow/datasets/x/records 3.0/mlflow/gateway/budgets/get 3.0/mlflow/gateway/budgets/list
    3.0/mlflow/gateway/budgets/windows 3.0/mlflow/gateway/endpoints/bindings/list 3.0/mlflow/gateway/endpoints/get
    3.0/mlflow/gateway/endpoints/list 3.0/mlflow/gateway/guardrails/get 3.0/mlflow/gateway/guardrails/list
    3.0/mlflow/gateway/guardrails/list-for-endpoint 3.0/mlflow/gateway/model-definitions/get
    3.0/mlflow/gateway/model-definitions/list 3.0/mlflow/gateway/secrets/get 3.0/mlflow/gateway/secrets/list
    3.0/mlflow/issues/x 3.0/mlflow/label-schemas/get 3.0/mlflow/label-schemas/get-by-name
    3.0/mlflow/label-schemas/list 3.0/mlflow/mcp-servers 3.0/mlflow/prompt-optimization/jobs/search
    3.0/mlflow/prompt-optimization/jobs/x 3.0/mlflow/review-queues/get 3.0/mlflow/review-queues/get-by-name
    3.0/mlflow/review-queues/items/list 3.0/mlflow/review-queues/list 3.0/mlflow/scorers/get
    3.0/mlflow/scorers/list 3.0/mlflow/scorers/online-configs 3.0/mlflow/scorers/versions
    3.0/mlflow/traces/batchGet 3.0/mlflow/traces/get 3.0/mlflow/traces/x 3.0/mlflow/traces/x/assessments/x
    3.0/mlflow/users/permissions/list 3.0/mlflow/workspaces 3.0/mlflow/workspaces/x
  `,
  POST: `
    2.0/mlflow-artifacts/mpu/abort/x 2.0/mlflow-artifacts/mpu/complete/x 2.0/mlflow-artifacts/mpu/create/x
    2.0/mlflow/artifacts/presigned-download-url 2.0/mlflow/artifacts/presigned-upload-url
    2.0/mlflow/experiments/create 2.0/mlflow/experiments/delete 2.0/mlflow/experiments/delete-experiment-tag
    2.0/mlflow/experiments/restore 2.0/mlflow/experiments/set-experiment-tag 2.0/mlflow/experiments/update
    2.0/mlflow/logged-models 2.0/mlflow/logged-models/x/params 2.0/mlflow/model-versions/create
    2.0/mlflow/model-versions/set-tag 2.0/mlflow/model-versions/transition-stage
    2.0/mlflow/registered-models/alias 2.0/mlflow/registered-models/create 2.0/mlflow/registered-models/rename
    2.0/mlflow/registered-models/set-tag 2.0/mlflow/runs/create 2.0/mlflow/runs/delete 2.0/mlflow/runs/delete-tag
    2.0/mlflow/runs/log-batch 2.0/mlflow/runs/log-inputs 2.0/mlflow/runs/log-metric 2.0/mlflow/runs/log-model
    2.0/mlflow/runs/log-parameter 2.0/mlflow/runs/outputs 2.0/mlflow/runs/restore 2.0/mlflow/runs/set-tag
    2.0/mlflow/runs/update 2.0/mlflow/traces 2.0/mlflow/traces/delete-traces 2.0/mlflow/traces/link-prompts
    2.0/mlflow/traces/link-to-run 2.0/mlflow/users/create 2.0/mlflow/webhooks 2.0/mlflow/webhooks/x/test
    3.0/mlflow/datasets/create 3.0/mlflow/datasets/search 3.0/mlflow/datasets/x/add-experiments
    3.0/mlflow/datasets/x/records 3.0/mlflow/datasets/x/remove-experiments 3.0/mlflow/gateway/budgets/create
    3.0/mlflow/gateway/budgets/update 3.0/mlflow/gateway/endpoints/bindings/create
    3.0/mlflow/gateway/endpoints/create 3.0/mlflow/gateway/endpoints/models/attach
    3.0/mlflow/gateway/endpoints/models/detach 3.0/mlflow/gateway/endpoints/set-tag
    3.0/mlflow/gateway/endpoints/update 3.0/mlflow/gateway/guardrails/add-to-endpoint
    3.0/mlflow/gateway/guardrails/create 3.0/mlflow/gateway/model-definitions/create
    3.0/mlflow/gateway/model-definitions/update 3.0/mlflow/gateway/secrets/create
    3.0/mlflow/gateway/secrets/update 3.0/mlflow/issues 3.0/mlflow/issues/search 3.0/mlflow/label-schemas/create
    3.0/mlflow/prompt-optimization/jobs 3.0/mlflow/prompt-optimization/jobs/search
    3.0/mlflow/prompt-optimization/jobs/x/cancel 3.0/mlflow/review-queues/create 3.0/mlflow/review-queues/delete
    3.0/mlflow/review-queues/get-or-create-user 3.0/mlflow/review-queues/items/add
    3.0/mlflow/review-queues/items/remove 3.0/mlflow/review-queues/items/set-status
    3.0/mlflow/review-queues/update 3.0/mlflow/roles/create 3.0/mlflow/scorers/register 3.0/mlflow/traces
    3.0/mlflow/traces/batchGetInfos 3.0/mlflow/traces/calculate-filter-correlation 3.0/mlflow/traces/delete-traces
    3.0/mlflow/traces/metrics 3.0/mlflow/traces/search 3.0/mlflow/traces/x/assessments
    3.0/mlflow/users/permissions/grant 3.0/mlflow/workspaces
  `,
  PUT: `
    2.0/mlflow-artifacts/artifacts/x 3.0/mlflow/scorers/online-config
  `,
  PATCH: `
    2.0/mlflow/logged-models/x 2.0/mlflow/logged-models/x/tags 2.0/mlflow/model-versions/update
    2.0/mlflow/registered-models/update 2.0/mlflow/traces/x 2.0/mlflow/traces/x/tags 2.0/mlflow/users/update-admin
    2.0/mlflow/users/update-password 2.0/mlflow/webhooks/x 3.0/mlflow/datasets/x/tags
    3.0/mlflow/gateway/guardrails/update-config 3.0/mlflow/issues/x 3.0/mlflow/label-schemas/update
    3.0/mlflow/traces/x/assessments/x 3.0/mlflow/traces/x/tags 3.0/mlflow/workspaces/x
  `,
  DELETE: `
    2.0/mlflow-artifacts/artifacts/x 2.0/mlflow/logged-models/x 2.0/mlflow/logged-models/x/tags/x
    2.0/mlflow/model-versions/delete 2.0/mlflow/model-versions/delete-tag 2.0/mlflow/registered-models/alias
    2.0/mlflow/registered-models/delete 2.0/mlflow/registered-models/delete-tag 2.0/mlflow/traces/x/tags
    2.0/mlflow/users/delete 2.0/mlflow/webhooks/x 3.0/mlflow/datasets/x 3.0/mlflow/datasets/x/records
    3.0/mlflow/datasets/x/tags/x 3.0/mlflow/gateway/budgets/delete 3.0/mlflow/gateway/endpoints/bindings/delete
    3.0/mlflow/gateway/endpoints/delete 3.0/mlflow/gateway/endpoints/delete-tag
    3.0/mlflow/gateway/guardrails/delete 3.0/mlflow/gateway/guardrails/remove-from-endpoint
    3.0/mlflow/gateway/model-definitions/delete 3.0/mlflow/gateway/secrets/delete 3.0/mlflow/label-schemas/delete
    3.0/mlflow/prompt-optimization/jobs/x 3.0/mlflow/scorers/delete 3.0/mlflow/traces/x/assessments/x
    3.0/mlflow/traces/x/tags 3.0/mlflow/users/permissions/revoke 3.0/mlflow/workspaces/x
  `,
};

/** And all else of its API. */
export const OTHER_ROUTES: readonly string[] = Object.entries(OTHERS).flatMap(([method, paths]) =>
  paths
    .trim()
    .split(/\s+/)
    .map(path => `${method} /api/${path}`),
);

/** What it answers beside its API: to browsers, to gateways' clients. */
export const BESIDE_THE_API: readonly string[] = [
  'GET /ajax-api/2.0/mlflow/registered-models/get',
  'POST /ajax-api/2.0/mlflow/runs/delete',
  'DELETE /ajax-api/2.0/mlflow-artifacts/artifacts/x',
  'POST /ajax-api/2.0/mlflow/upload-artifact',
  'POST /ajax-api/3.0/jobs/',
  'PATCH /ajax-api/3.0/jobs/cancel/x',
  'POST /graphql',
  'GET /graphql',
  'POST /gateway/x/mlflow/invocations',
  'POST /gateway/proxy/x/x',
  'GET /get-artifact',
  'GET /model-versions/get-artifact',
  'GET /static-files/x',
];
