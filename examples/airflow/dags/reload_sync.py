"""Has the sidecar load models and shows its report in the task's log. For models that load within a minute or two."""

from datetime import timedelta

from airflow.providers.http.operators.http import HttpOperator

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

MODEL_URIS = ["models:/topic-classification/Production", "models:/sentiment-analysis/Production"]


@dag(schedule=None, params={"model_uris": MODEL_URIS})
def reload_sync():
    HttpOperator(
        task_id="reload_models",
        http_conn_id="model_sidecar",
        endpoint="v1/reload",
        # The sidecar answers before the client gives up, and the client gives up before Airflow does.
        data={"model_uris": "{{ params.model_uris | join(',') }}", "deadline_s": "60"},
        extra_options={"timeout": 70},  # The operator has no timeout of its own.
        execution_timeout=timedelta(seconds=90),
        headers={
            "Accept": "text/plain",
            "X-Airflow-Dag-Id": "{{ dag.dag_id }}",
            "X-Airflow-Run-Id": "{{ run_id }}",
            "X-Airflow-Task-Id": "{{ task.task_id }}",
            "X-Airflow-Try-Number": "{{ ti.try_number }}",
            "X-Airflow-Map-Index": "{{ ti.map_index }}",
        },
        log_response=True,
    )


reload_sync()
