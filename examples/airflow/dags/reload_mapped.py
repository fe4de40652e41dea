"""Loads many models, each in a task of its own with its own retries. Tasks that ask for the same share its download."""

import logging
from datetime import timedelta

from mlflow_sidecar import model_path

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

log = logging.getLogger(__name__)

MODEL_URIS = ["models:/topic-classification/Production", "models:/sentiment-analysis/Production"]


@dag(schedule=None, params={"model_uris": MODEL_URIS})
def reload_mapped():
    @task
    def model_uris(params: dict) -> list[str]:
        return params["model_uris"]

    # Not returned: a path is good only where the same cache is mounted. Hand on the URI.
    @task(execution_timeout=timedelta(minutes=6), retries=2, retry_delay=timedelta(minutes=1))
    def load(model_uri: str) -> None:
        log.info("%s is in %s", model_uri, model_path(model_uri, deadline_s=300))

    load.expand(model_uri=model_uris())


reload_mapped()
