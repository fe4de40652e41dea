"""Does what it is told with MLflow's own client, one JSON line of standard input after the other, and answers each with a JSON line.

A command: {"function": "load", "arguments": {"model_uri": "…"}, "environment": {"MLFLOW_TRACKING_URI": "…", "MLFLOW_REGISTRY_URI": null}};
null takes a variable away. A function that is none of these below is a method of MlflowClient. Each line is answered with its value, or
the error that it raised, and the seconds that it took.
"""

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

# What MLflow prints is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import mlflow  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import mlflow.sklearn  # noqa: E402

TEXTS = ["a late goal won the match", "a terrible waste of time"]


def load(model_uri):
    model = mlflow.pyfunc.load_model(model_uri)
    return {"predictions": [str(one) for one in model.predict(TEXTS)], "run_id": model.metadata.run_id}


def download(artifact_uri):
    """The digests of the files, by their paths."""
    with tempfile.TemporaryDirectory() as dst:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri, dst_path=dst))
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        root = path.parent if path.is_file() else path
        return {file.relative_to(root).as_posix(): digest(file) for file in files}


def make_file(name, size):
    """A file of random bytes, and its digest."""
    path = Path(name).absolute()
    path.write_bytes(os.urandom(size))
    return {"path": str(path), "sha256": digest(path)}


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def plain(value):
    """What MLflow's client gives, as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return plain(dict(value)) if hasattr(value, "__iter__") else str(value)


OWN = {function.__name__: function for function in (load, download, make_file)}


def answer(command):
    for name, value in command["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    value = error = None
    started_at = time.perf_counter()
    try:
        function = OWN.get(command["function"]) or getattr(mlflow.MlflowClient(), command["function"])
        value = plain(function(**command["arguments"]))
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"value": value, "error": error, "s": time.perf_counter() - started_at}


logging.disable()
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
