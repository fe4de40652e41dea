"""Begins a reload in the background and waits for its end in the triggerer: one request, and no worker's slot taken."""

import logging
from datetime import timedelta

from airflow.providers.http.operators.http import HttpOperator

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

log = logging.getLogger(__name__)

HEADERS = {
    "X-Airflow-Dag-Id": "{{ dag.dag_id }}",
    "X-Airflow-Run-Id": "{{ run_id }}",
    "X-Airflow-Task-Id": "{{ task.task_id }}",
    "X-Airflow-Try-Number": "{{ ti.try_number }}",
    "X-Airflow-Map-Index": "{{ ti.map_index }}",
}


@dag(schedule=None, params={"model_uri": "models:/topic-classification/Production"})
def reload_deferrable():
    # The job ends at its deadline, the sidecar answers after wait_s, the client gives up last:
    # Airflow's execution_timeout does not count while a task is deferred.
    begin = HttpOperator(
        task_id="begin_reload",
        http_conn_id="model_sidecar",
        endpoint="v1/reload",
        data={"model_uri": "{{ params.model_uri }}", "deadline_s": "230", "mode": "async"},
        headers=HEADERS,
        extra_options={"timeout": 10},
        response_filter=lambda response: response.json()["status_url"],
    )
    # Asked by the triggerer: its sidecar must be the worker's, or share the worker's cache.
    job = HttpOperator(
        task_id="wait_for_reload",
        http_conn_id="model_sidecar",
        method="GET",
        endpoint=begin.output,
        data={"wait_s": "240"},
        headers=HEADERS,
        extra_options={"timeout": 250},
        deferrable=True,
        # A sidecar that is restarted says that the job goes on, or hangs up: it is asked again.
        response_check=lambda response: response.json()["done"],
        retries=3,
        retry_delay=timedelta(seconds=10),
        response_filter=lambda response: response.json(),
    )

    @task
    def check(job: dict) -> str:
        outcome, warning = job["outcome"], job["outcome"]["warning"]
        if outcome["path"] is None:
            raise RuntimeError("{code}: {message} {hint}".format(**warning))
        if warning is not None:
            log.warning("%(code)s: %(message)s", warning)
        return outcome["version"]

    check(job.output)


reload_deferrable()
