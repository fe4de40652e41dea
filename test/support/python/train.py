"""Trains small text classifiers and registers them; prints one JSON line for each.

Usage: train.py <tracking-uri> [<name>...] [--unstaged=<name>...]

Each is the next version of its model; those that are not unstaged become the one in Production and @champion.
"""

import argparse
import contextlib
import json
import logging
import sys
import time
import warnings

import mlflow
from mlflow import MlflowClient
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

SENTENCES = {
    "topic-classification": [
        ("the team won the match in the last minute", "sport"),
        ("a late goal decided the final", "sport"),
        ("the striker signed for another club", "sport"),
        ("the bank raised its interest rate again", "economy"),
        ("shares fell after the quarterly report", "economy"),
        ("inflation and prices keep rising", "economy"),
    ],
    "sentiment-analysis": [
        ("what a wonderful film, I loved it", "positive"),
        ("great service and friendly people", "positive"),
        ("I would happily come back", "positive"),
        ("a terrible waste of time", "negative"),
        ("rude staff and cold food", "negative"),
        ("I hated every minute of it", "negative"),
    ],
}


def train(name):
    texts, labels = zip(*SENTENCES.get(name, SENTENCES["sentiment-analysis"]))
    return make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, labels)


def log(model, name):
    """Logs and registers; MLflow 3 calls `name` what MLflow 2 called `artifact_path`."""
    where = {"name": "model"} if mlflow.__version__.startswith("3.") else {"artifact_path": "model"}
    with mlflow.start_run() as run:
        mlflow.log_param("trained_at", time.time())
        # Without these MLflow would find them out, by loading the model in another process.
        info = mlflow.sklearn.log_model(
            model, registered_model_name=name, pip_requirements=["mlflow", "scikit-learn"], **where
        )
    return {
        "name": name,
        "version": str(info.registered_model_version),
        "run_id": run.info.run_id,
        "model_id": getattr(info, "model_id", None),
    }


def promote(client, name, version):
    client.transition_model_version_stage(name, version, "Production", archive_existing_versions=True)
    client.set_registered_model_alias(name, "champion", version)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tracking_uri")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--unstaged", action="append", default=[])
    options = parser.parse_args()
    mlflow.set_tracking_uri(options.tracking_uri)
    mlflow.set_experiment("ml_model_training")
    client = MlflowClient()
    for name in options.names + options.unstaged:
        with contextlib.redirect_stdout(sys.stderr):
            registered = log(train(name), name)
        if name in options.names:
            promote(client, name, registered["version"])
        print(json.dumps(registered))


warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
main()
