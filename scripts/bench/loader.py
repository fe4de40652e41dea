"""Loads a model again and again in one process, as a service does that follows it.

Usage: loader.py <model-uri>

Each line of its input is a tracking URI to load by; for each it prints the seconds that `load_model` took.
"""

import logging
import sys
import time
import warnings

import mlflow


def main():
    for line in sys.stdin:
        mlflow.set_tracking_uri(line.strip())
        started_at = time.perf_counter()
        mlflow.pyfunc.load_model(sys.argv[1])
        print(time.perf_counter() - started_at, flush=True)


warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
main()
