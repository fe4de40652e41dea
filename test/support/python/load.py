"""Loads model directories in a process that cannot open a connection, and predicts; prints one JSON line for each.

Usage: load.py <path>...
"""

import json
import os
import socket
import sys
import tempfile
import time
import warnings

NETWORK = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
# Without these no child process could do what this one cannot.
CHILDREN = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}


def refuse(event, args):
    if event in NETWORK or event in CHILDREN:
        raise PermissionError(f"{event}{args!r} in a process that is offline")


def is_offline():
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def load(path):
    started_at = time.perf_counter()
    model = mlflow.pyfunc.load_model(path)
    load_s = time.perf_counter() - started_at
    predictions = model.predict(["a late goal won the match", "a terrible waste of time"])
    return {
        "predictions": [str(one) for one in predictions],
        "load_s": round(load_s, 3),
        "mlflow": mlflow.__version__,
    }


warnings.simplefilter("ignore")
sys.addaudithook(refuse)
assert is_offline() and not any(name.startswith("MLFLOW_TRACKING") for name in os.environ)

import mlflow  # noqa: E402

# MLflow 2 makes a directory mlruns where it runs.
with tempfile.TemporaryDirectory() as cwd:
    os.chdir(cwd)
    for path in sys.argv[1:]:
        print(json.dumps(load(path)))
    os.chdir("/")
