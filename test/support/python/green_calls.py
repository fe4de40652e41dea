"""Calls the helper in a program whose blocking calls a library has replaced: `green_calls.py eventlet|gevent FUNCTION URI`.

Prints the path or the error, and how often another green thread had its turn meanwhile.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")
library, function, uri = sys.argv[1:4]
deadline_s = 30.0
if library == "eventlet":
    import eventlet

    eventlet.monkey_patch()
elif library == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()

import threading
import time

import mlflow_sidecar

mlflow_sidecar._SILENT_S = 0.3
mlflow_sidecar._HEALTH_S = 0.5

turns = 0
over = threading.Event()


def count():
    global turns
    while not over.wait(0.01):
        turns += 1


counter = threading.Thread(target=count, daemon=True)
counter.start()
value = error = None
started = time.monotonic()
try:
    if function == "watch":
        seen = threading.Event()
        watcher = mlflow_sidecar.watch(uri, lambda path: seen.set(), deadline_s=deadline_s)
        seen.wait(deadline_s)
        watcher.stop()
        value = seen.is_set()
    else:
        value = mlflow_sidecar.model_path(uri, deadline_s=deadline_s)
except Exception as raised:
    error = f"{type(raised).__name__}: {raised}"
over.set()
print(json.dumps({"value": value, "error": error, "turns": turns, "s": time.monotonic() - started}))
