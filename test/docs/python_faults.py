"""What is wrong with pieces of Python of a text: a JSON list of them comes in, a list of faults for each goes out.

They must compile, import of the helper what it has, and call its functions as they are defined. An endpoint that a call
names is given back as a route, for others to know.
"""

import ast
import inspect
import json
import sys

sys.path.insert(0, "clients/python")
import mlflow_sidecar  # noqa: E402

FUNCTIONS = {name: inspect.signature(getattr(mlflow_sidecar, name)) for name in ("model_path", "reload", "watch")}
# What Airflow's operators send where they are told nothing.
METHODS = {"HttpOperator": "POST", "HttpSensor": "GET"}


def name_of(function):
    if isinstance(function, ast.Attribute):
        is_ours = isinstance(function.value, ast.Name) and function.value.id == "mlflow_sidecar"
        return f"mlflow_sidecar.{function.attr}" if is_ours else function.attr
    return getattr(function, "id", "")


def call_fault(call):
    name = name_of(call.func)
    signature = FUNCTIONS.get(name.removeprefix("mlflow_sidecar."))
    if signature is None or any(isinstance(given, ast.Starred) for given in call.args):
        return None
    try:
        signature.bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
    except TypeError as error:
        return f"{name}(): {error}"
    return None


def route_of(call):
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    endpoint = given.get("endpoint")
    if not isinstance(endpoint, str):
        return None
    return f"{given.get('method') or METHODS.get(name_of(call.func), 'GET')} /{endpoint.lstrip('/')}"


def examined(text):
    faults, routes = [], []
    try:
        nodes = list(ast.walk(ast.parse(text)))
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module == "mlflow_sidecar":
                for alias in node.names:
                    getattr(mlflow_sidecar, alias.name)
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        faults = [fault for fault in map(call_fault, calls) if fault]
        routes = [route for route in map(route_of, calls) if route]
    except (SyntaxError, AttributeError) as error:
        faults = [f"{type(error).__name__}: {error}"]
    return {"faults": faults, "routes": routes}


print(json.dumps([examined(text) for text in json.loads(sys.argv[1])]))
