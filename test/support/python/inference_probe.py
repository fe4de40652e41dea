"""The inference example, and beside its own routes one that says how many models are alive."""

import gc

from app import app
from mlflow.pyfunc import PyFuncModel


@app.get("/alive")
def alive() -> int:
    gc.collect()
    return sum(isinstance(each, PyFuncModel) for each in gc.get_objects())
