"""A service that tells who asks when a disk is mounted, and does a job on one node at a time.

Run it with ``uvicorn fastapi_service:app``, on any number of hosts.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

import coord
import coord.aio


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect for as long as the application runs, on its loop."""
    async with coord.aio.connect(os.environ.get("COORD_URL", "redis://127.0.0.1:6379")) as app.state.coord:
        yield


app = FastAPI(lifespan=lifespan)


def events(request: Request, name: str) -> coord.aio.EventMap:
    """Return a map of the application's coordinator."""
    node: coord.aio.Coordinator = request.app.state.coord
    return node.events(name)


@app.get("/mounted/{disk}")
async def mounted(request: Request, disk: str, seconds: float = 25.0) -> Any:
    """Wait until the disk is mounted, before or after this request, and say where."""
    try:
        return await events(request, "mount").wait(disk, timeout=seconds)
    except coord.EventFailed as failed:
        raise HTTPException(424, str(failed)) from None
    except coord.TimedOut:
        raise HTTPException(408, "not mounted yet: ask again") from None


@app.post("/mounted/{disk}")
async def mount(request: Request, disk: str, path: str) -> bool:
    """Tell everybody that the disk is mounted; return whether this request was the first to say so."""
    applied = await events(request, "mount").fire(disk, {"at": path})
    return applied.first


@app.post("/reports")
async def report(request: Request) -> str:
    """Write the report; of all requests at all nodes, one at a time does."""
    try:
        async with events(request, "jobs").lock("report", timeout=25) as lock:
            # What is written carries the token; who finds a higher one there does not write.
            return lock.token
    except coord.TimedOut as busy:
        raise HTTPException(503, str(busy)) from None
