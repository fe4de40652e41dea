"""Loads many models, each in a task of its own with its own retries. Tasks that ask for the same share its download."""

from datetime import timedelta

from mlflow_sidecar import model_path

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

MODEL_URIS = ["models:/topic-classification/Production", "models:/sentiment-analysis/Production"]


@dag(schedule=None, params={"model_uris": MODEL_URIS})
def reload_mapped():
    @task
    def model_uris(params: dict) -> list[str]:
        return params["model_uris"]

    @task(execution_timeout=timedelta(minutes=6), retries=2, retry_delay=timedelta(minutes=1))
    def load(model_uri: str) -> str:
        return model_path(model_uri, deadline_s=300)

    load.expand(model_uri=model_uris())


reload_mapped()
