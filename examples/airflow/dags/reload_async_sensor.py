"""Begins a reload in the background and has a sensor wait for its end: for models that take minutes."""

import logging
from datetime import timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor

try:
    from airflow.sdk import PokeReturnValue, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.sensors.base import PokeReturnValue

log = logging.getLogger(__name__)

HEADERS = {
    "X-Airflow-Dag-Id": "{{ dag.dag_id }}",
    "X-Airflow-Run-Id": "{{ run_id }}",
    "X-Airflow-Task-Id": "{{ task.task_id }}",
    "X-Airflow-Try-Number": "{{ ti.try_number }}",
    "X-Airflow-Map-Index": "{{ ti.map_index }}",
}


@dag(schedule=None, params={"model_uri": "models:/topic-classification/Production", "deadline_s": 600})
def reload_async_sensor():
    # Whichever worker waits: model_sidecar must name one sidecar for all, or each has one on the same cache.
    begin = HttpOperator(
        task_id="begin_reload",
        http_conn_id="model_sidecar",
        endpoint="v1/reload",
        data={
            "model_uri": "{{ params.model_uri }}",
            "deadline_s": "{{ params.deadline_s }}",
            "mode": "async",
        },
        headers=HEADERS,
        extra_options={"timeout": 10},
        response_filter=lambda response: response.json()["result_url"],
    )
    # The result is a 404, which means "wait" to a sensor, until the job has ended, well or not.
    outcome = HttpSensor(
        task_id="wait_for_reload",
        http_conn_id="model_sidecar",
        endpoint=begin.output,
        headers=HEADERS,
        extra_options={"timeout": 10},
        response_check=lambda response: PokeReturnValue(True, response.json()),
        poke_interval=2,  # With mode="reschedule", which frees the worker's slot, rather 30 or more.
        timeout=660,
        # The job outlives a restart of the sidecar, and its address is an XCom.
        retries=3,
        retry_delay=timedelta(seconds=10),
    )

    @task
    def check(outcome: dict) -> str:
        warning = outcome["warning"]
        if outcome["path"] is None:
            raise RuntimeError("{code}: {message} {hint}".format(**warning))
        if warning is not None:
            log.warning("%(code)s: %(message)s", warning)
        return outcome["version"]

    check(outcome.output)


reload_async_sensor()
