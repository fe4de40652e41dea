"""Reads published models in a loop until standard input ends: sidecar_readers.py <uri>.

Each round asks the sidecar's Python helper for the directory and reads every file of it. Prints {"rounds", "labels", "wrong"}: the labels
that were seen, and what was wrong with a round: an error, or files that do not all carry one label.
"""

import json
import logging
import os
import sys
import threading

from mlflow_sidecar import model_path


def label_of(path):
    """The one label that all files carry: each is `<label>` followed by anything after a blank."""
    labels = set()
    for directory, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                labels.add(file.read().split(" ", 1)[0])
    [label] = labels
    return label


def read():
    while not over.is_set():
        try:
            labels.add(label_of(model_path(sys.argv[1])))
        except Exception as error:
            wrong.append(repr(error))
        else:
            counted.append(None)


logging.disable()
over = threading.Event()
labels, wrong, counted = set(), [], []
reader = threading.Thread(target=read)
reader.start()
sys.stdin.read()
over.set()
reader.join()
print(json.dumps({"rounds": len(counted), "labels": sorted(labels), "wrong": wrong[:10]}))
