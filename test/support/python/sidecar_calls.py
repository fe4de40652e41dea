"""Calls the sidecar's Python helper, one call for each line of standard input, and answers each with a JSON line.

A call: {"function": "model_path", "arguments": […], "options": {…}, "environment": {"SIDECAR_URL": "…"}}. Five more functions:
"ten_paths" is model_path ten times at once, "hang_in_getaddrinfo" has every name hang from now on, "hang_on_disk" every look at the cache, "threads" gives how many threads of the
helper are alive, "outcome_fields" what an outcome holds by its type.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow_sidecar

log = []


class Collect(logging.Handler):
    def emit(self, record):
        log.append(f"{record.levelname} {record.getMessage()}")


def hang_in_getaddrinfo():
    socket.getaddrinfo = lambda *_, **__: threading.Event().wait()


def hang_on_disk():
    os.path.realpath = os.open = lambda *_, **__: threading.Event().wait()


def threads():
    return sum(thread.name == "mlflow_sidecar" for thread in threading.enumerate())


def ten_paths(*arguments, **options):
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(mlflow_sidecar.model_path, *arguments, **options) for _ in range(10)]
    return [call.result() for call in calls]


def outcome_fields():
    return sorted(mlflow_sidecar.Outcome.__annotations__)


OWN = {function.__name__: function for function in (ten_paths, hang_in_getaddrinfo, hang_on_disk, threads, outcome_fields)}


def answer(call):
    log.clear()
    os.environ.update(call["environment"])
    function = OWN.get(call["function"]) or getattr(mlflow_sidecar, call["function"])
    value = error = None
    started_at = time.monotonic()
    try:
        value = function(*call["arguments"], **call["options"])
    except Exception as raised:
        error = {"type": type(raised).__name__, "text": str(raised), "code": getattr(raised, "code", None)}
    return {"value": value, "error": error, "s": time.monotonic() - started_at, "log": list(log)}


logging.basicConfig(handlers=[Collect()], level=logging.INFO)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
