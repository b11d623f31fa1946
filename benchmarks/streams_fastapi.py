"""The peer of ``streams.py``: server-sent events by hand, with FastAPI and redis-py, as one would write them first.

One task reads the stream of Redis for all clients, and each client has a queue. It begins with an event, as coord's
streams do. What it does not do: rights, prefixes, several maps; to tell lost history; to spare the memory of a client
that does not read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from redis.asyncio import BlockingConnectionPool, Redis

# Without a timeout of sockets, which would end the reading of a stream in which nothing happens.
pool = BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=50, timeout=None, socket_timeout=None)
redis = Redis(connection_pool=pool)
queues: set[asyncio.Queue[bytes]] = set()


async def follow() -> None:
    """Give each new change to all clients."""
    last: str | bytes = "$"
    while True:
        for _, entries in await redis.xread({"m": last}, block=0):
            for last, fields in entries:
                event = b"id: %b\ndata: %b\n\n" % (last, fields[b"data"])
                for queue in queues:
                    queue.put_nowait(event)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Follow while the program serves."""
    task = asyncio.create_task(follow())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


async def events(last: str | None) -> AsyncIterator[bytes]:
    """Yield what a client has missed, and then what comes."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    queues.add(queue)
    try:
        yield b"event: begin\ndata: {}\n\n"
        seen = (0, 0)
        if last:
            for identifier, fields in await redis.xrange("m", f"({last}"):
                seen = tuple(map(int, identifier.split(b"-")))
                yield b"id: %b\ndata: %b\n\n" % (identifier, fields[b"data"])
        while True:
            try:
                event = await asyncio.wait_for(queue.get(), 15)
            except TimeoutError:
                yield b":\n\n"
                continue
            if tuple(map(int, event[4 : event.index(b"\n")].split(b"-"))) > seen:
                yield event
    finally:
        queues.discard(queue)


@app.get("/watch")
async def watch(last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
    """Serve one client."""
    return StreamingResponse(events(last_event_id), media_type="text/event-stream")
