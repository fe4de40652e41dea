"""Downloads models as MLflow's users do, each in a process of its own in which MLflow is imported already.

Reads one JSON object a line, {"id", "tracking_uri", "model_uri"}, and prints one for each: {"id", "seconds", "files"} with the sha256 of
every file by its path, or {"id", "seconds", "error"}. The end of the input ends all of them.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import mlflow.artifacts
import mlflow.store.artifact.http_artifact_repo
import mlflow.store.artifact.models_artifact_repo

# Below what a pipe takes in one piece, so that no two answers mix.
LONGEST_ERROR = 3_000
NOT_THE_MODELS = "registered_model_meta"


def download(tracking_uri, model_uri, directory):
    mlflow.set_tracking_uri(tracking_uri)
    started_at = time.perf_counter()
    try:
        mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=directory)
    except Exception as error:  # Whatever it is, that is what the user sees.
        return {"seconds": time.perf_counter() - started_at, "error": str(error)[:LONGEST_ERROR]}
    seconds = time.perf_counter() - started_at
    paths = [path for path in Path(directory).rglob("*") if path.is_file() and path.name != NOT_THE_MODELS]
    files = {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return {"seconds": seconds, "files": files}


def answer(command):
    with tempfile.TemporaryDirectory() as directory:
        found = download(command["tracking_uri"], command["model_uri"], directory)
    os.write(1, (json.dumps({"id": command["id"], **found}) + "\n").encode())


os.setpgid(0, 0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(json.dumps({"mlflow": mlflow.__version__}), flush=True)
for line in sys.stdin:
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        answer(json.loads(line))
        os._exit(0)
os.killpg(0, signal.SIGKILL)
