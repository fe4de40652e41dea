"""A task for each way in which HttpOperator sends a body or a credential, all with the same headers of correlation."""

import json

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG

FIELDS = {"model_uri": "models:/variants/Production", "deadline_s": 20}

BODIES = {
    "form": {"data": FIELDS},
    "json": {"data": json.dumps(FIELDS), "headers": {"Content-Type": "application/json"}},
    "untyped_json": {"data": json.dumps(FIELDS)},
    "empty": {},
    "request_kwargs": {"request_kwargs": {"json": FIELDS}},
}
CORRELATION = {
    "X-Airflow-Dag-Id": "{{ dag.dag_id }}",
    "X-Airflow-Run-Id": "{{ run_id }}",
    "X-Airflow-Task-Id": "{{ task.task_id }}",
    "X-Airflow-Try-Number": "{{ ti.try_number }}",
    "X-Airflow-Map-Index": "{{ ti.map_index }}",
}


def operator(mode, name, connection, *, headers=None, **body):
    HttpOperator(
        task_id=f"{mode}_{name}",
        http_conn_id=connection,
        endpoint="v1/reload",
        headers={**CORRELATION, **(headers or {})},
        extra_options={"timeout": 30},
        deferrable=mode == "deferrable",
        **body,
    )


with DAG("http_variants", schedule=None):
    for mode in ("sync", "deferrable"):
        for name, body in BODIES.items():
            operator(mode, name, "plain", **body)
        for connection in ("login", "bearer"):
            operator(mode, connection, connection, data=FIELDS)
