"""Watches a model with the sidecar's Python helper: sidecar_watch.py <uri> <interval_s>.

Prints a JSON line for each callback ({"path"}) and each line of the log ({"log"}). A line "fail" on standard input makes callbacks
raise, "work" ends that, and each is told once it holds ({"heard"}); at the end of the input it stops watching and prints how long that took ({"stopped_s"}).
"""

import json
import logging
import sys
import time

from mlflow_sidecar import watch

fails = False


def tell(**what):
    print(json.dumps(what), flush=True)


class Tell(logging.Handler):
    def emit(self, record):
        tell(log=f"{record.levelname} {record.getMessage()}")


def callback(path):
    tell(path=path)
    if fails:
        raise RuntimeError("this model does not load")


logging.basicConfig(handlers=[Tell()], level=logging.INFO)
watcher = watch(sys.argv[1], callback, interval_s=float(sys.argv[2]))
for line in sys.stdin:
    fails = line.strip() == "fail"
    tell(heard=line.strip())
started_at = time.monotonic()
watcher.stop()
tell(stopped_s=time.monotonic() - started_at)
