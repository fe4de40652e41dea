"""Holds the manifests on standard input to their schemas, and prints what is wrong as a JSON list of lines."""

import json
import pathlib
import sys
from typing import Any, Dict, Iterator

import jsonschema
from kubernetes_validate import utils

CRDS = pathlib.Path(__file__).parents[2] / "helm" / "crds"


def loaded_once(read: Any) -> Any:
    """The schemas are large, and read from the disk for each manifest otherwise."""
    kept: Dict[str, Any] = {}

    def reading(filename: str, version: str) -> Any:
        if filename not in kept:
            kept[filename] = read(filename, version)
        return kept[filename]

    return reading


def name_of(manifest: Dict[str, Any]) -> str:
    return "%s %s" % (manifest["kind"], manifest["metadata"]["name"])


def place_of(error: Any) -> str:
    return ".".join(str(item) for item in error.absolute_path)


def faults_of(manifest: Dict[str, Any], version: str) -> Iterator[str]:
    crd = CRDS / ("%s.json" % manifest["kind"].lower())
    if crd.exists():
        for error in jsonschema.Draft202012Validator(json.loads(crd.read_text())).iter_errors(manifest):
            yield "%s: %s: %s" % (name_of(manifest), place_of(error), error.message)
        return
    try:
        utils.validate(manifest, version, strict=True)
    except utils.ValidationError as error:
        yield "%s in %s: %s: %s" % (name_of(manifest), version, place_of(error), error.message)
    except utils.SchemaNotFoundError as error:
        yield "%s in %s: %s" % (name_of(manifest), version, error.message)


def main() -> None:
    utils.schema_contents = loaded_once(utils.schema_contents)
    given = json.load(sys.stdin)
    faults = [
        fault
        for version in given["versions"]
        for manifest in given["manifests"]
        for fault in faults_of(manifest, version)
    ]
    print(json.dumps(faults))


main()
