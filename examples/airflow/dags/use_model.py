"""Uses a model in the task that needs it: the sidecar says where its files are, MLflow's own client loads them."""

from datetime import timedelta

from mlflow_sidecar import model_path

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(schedule=None, params={"model_uri": "models:/topic-classification/Production"})
def use_model():
    @task(execution_timeout=timedelta(minutes=10), retries=2, retry_delay=timedelta(minutes=1))
    def classify(model_uri: str, texts: list[str]) -> list[str]:
        import mlflow  # Here, since the DAG processor would need seconds for it.

        model = mlflow.pyfunc.load_model(model_path(model_uri, deadline_s=60))
        return [str(label) for label in model.predict(texts)]

    classify("{{ params.model_uri }}", ["a late goal won the match", "the bank raised its interest rate"])


use_model()
