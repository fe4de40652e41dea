"""Where the sidecar's Python helper looks for the records of model URIs: a JSON list of texts in, a list of [canonical text, file]
out, null for what is not a model URI."""

import json
import sys

from mlflow_sidecar import _file_name, _NotPublished, _parse


def look(uri):
    try:
        canonical, name, ref = _parse(uri)
    except _NotPublished:
        return None
    return [canonical, "/".join(_file_name(part, rb"A-Za-z") for part in (name, ref)) + ".json"]


json.dump([look(uri) for uri in json.load(sys.stdin)], sys.stdout)
