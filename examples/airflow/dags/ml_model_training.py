"""Trains, registers and promotes a model, then has the sidecar load what is new. That last task is a courtesy to the
tasks that use the models: whatever happens to it, it warns and succeeds."""

import logging
from datetime import datetime, timedelta

from airflow.providers.http.hooks.http import HttpHook

try:
    from airflow.sdk import dag, task
    from airflow.sdk.exceptions import AirflowTaskTimeout
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.exceptions import AirflowTaskTimeout

log = logging.getLogger(__name__)

PARAMS = {
    "name": "topic-classification",
    "model_uris": ["models:/topic-classification/Production", "models:/sentiment-analysis/Production"],
}


@dag(schedule="@daily", start_date=datetime(2025, 1, 1), catchup=False, max_active_runs=1, params=PARAMS)
def ml_model_training():
    @task(execution_timeout=timedelta(hours=1))
    def train(name: str) -> str:
        import mlflow
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        texts = ["a late goal won the match", "the striker scored twice", "shares fell", "the bank raised its rate"]
        model = make_pipeline(CountVectorizer(), MultinomialNB())
        model.fit(texts, ["sport", "sport", "economy", "economy"])
        mlflow.set_experiment("ml_model_training")
        with mlflow.start_run():
            info = mlflow.sklearn.log_model(
                model, name="model", registered_model_name=name, pip_requirements=["scikit-learn"]
            )
        return str(info.registered_model_version)

    @task(execution_timeout=timedelta(minutes=5))
    def promote(name: str, version: str) -> None:
        from mlflow import MlflowClient

        MlflowClient().transition_model_version_stage(name, version, "Production", archive_existing_versions=True)

    # The sidecar answers before the client gives up, and the client gives up before Airflow does.
    @task(execution_timeout=timedelta(seconds=35))
    def reload_models(params: dict) -> None:
        hook = HttpHook(http_conn_id="model_sidecar")
        try:
            with hook.get_conn({"Accept": "text/plain"}) as session:  # Its run() would warn of the same once more.
                answer = session.post(
                    hook.url_from_endpoint("v1/reload"),
                    data={"model_uris": ",".join(params["model_uris"]), "deadline_s": 20},
                    timeout=25,
                )
        # A client's timeout is for each read; what trickles is ended by Airflow, by what is no Exception.
        except (Exception, AirflowTaskTimeout) as error:
            log.warning("⚠️ The model sidecar did not answer: %r", error)
            return
        if not answer.ok:
            log.warning("⚠️ The model sidecar refused: HTTP %s %s", answer.status_code, answer.text[:1000])
            return
        for line in answer.text.splitlines():
            log.log(logging.WARNING if line.startswith("⚠️") else logging.INFO, "%s", line)

    promote("{{ params.name }}", train("{{ params.name }}")) >> reload_models()


ml_model_training()
