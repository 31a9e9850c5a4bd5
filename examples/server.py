"""A web service for a model: a run's folder, or a folder of `distill export`.

    pip install fastapi uvicorn
    MODEL=served uvicorn --app-dir examples server:app
    curl -H 'Content-Type: application/json' -d '{"texts": ["A text"]}' http://127.0.0.1:8000/generate

One process holds one model, and decodes one request after the other on all its cores; texts of one request are decoded
together. For more, start several processes behind a load balancer.
"""

import os
from contextlib import asynccontextmanager
from threading import Lock
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from seq2seq_distill import load_decoder

loaded: dict[str, Any] = {}
lock = Lock()


@asynccontextmanager
async def lifespan(app: FastAPI):
    loaded["decoder"] = load_decoder(os.environ.get("MODEL", "served"))
    yield


class Request(BaseModel):
    texts: list[str] = Field(max_length=256)


app = FastAPI(lifespan=lifespan)


@app.post("/generate")
def generate(request: Request) -> dict[str, list[str]]:  # not async: it runs beside the event loop
    with lock:
        return {"outputs": loaded["decoder"](request.texts)}
