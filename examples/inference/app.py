"""Serves the model that MODEL_URI points to, and goes over to another version as soon as it points there.

    MODEL_URI=models:/topic-classification@champion uvicorn app:app
"""

import os
from contextlib import asynccontextmanager
from typing import Annotated, Any, NamedTuple, Optional

import mlflow
import numpy
from fastapi import Body, FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from mlflow_sidecar import watch


class Loaded(NamedTuple):
    path: str
    model: mlflow.pyfunc.PyFuncModel


loaded: Optional[Loaded] = None


def load(path: str) -> None:
    """Runs in the watcher's thread. The model before goes when the last request that uses it has ended."""
    global loaded
    loaded = Loaded(path, mlflow.pyfunc.load_model(path))


@asynccontextmanager
async def lifespan(_: FastAPI):
    watcher = watch(os.environ["MODEL_URI"], load, interval_s=float(os.environ.get("MODEL_INTERVAL_S", "10")))
    yield
    await run_in_threadpool(watcher.stop)


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
def predict(inputs: Annotated[list[Any], Body(embed=True)]) -> dict[str, Any]:
    # Once: what is loaded meanwhile is for the next request.
    current = loaded
    if current is None:
        raise HTTPException(503, "No model is loaded yet.", headers={"Retry-After": "5"})
    predictions = numpy.asarray(current.model.predict(inputs)).tolist()
    return {"predictions": predictions, "run_id": current.model.metadata.run_id, "path": current.path}


@app.get("/healthz")
def healthz() -> dict[str, bool]:
    return {"loaded": loaded is not None}
