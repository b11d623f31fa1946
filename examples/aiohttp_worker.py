"""A worker that follows a map and acknowledges what it has done, with its state on a page of its own.

Run it with ``python aiohttp_worker.py``.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

import coord
import coord.aio

DONE = web.AppKey("done", list[str])


async def work(app: web.Application, on_mount: coord.aio.EventMap) -> None:
    """Back up each disk that is mounted, beginning with those that are already."""
    async with on_mount.watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, coord.Record) and change.kind is coord.Kind.FIRED:
                await asyncio.sleep(0)  # the backup
                app[DONE].append(change.key)
                await on_mount.ack(change)


async def connected(app: web.Application) -> AsyncIterator[None]:
    """Connect and work for as long as the application runs."""
    async with coord.aio.connect(os.environ.get("COORD_URL", "redis://127.0.0.1:6379")) as c:
        working = asyncio.create_task(work(app, c.events("mount")))
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


async def done(request: web.Request) -> web.Response:
    """Say which disks are backed up."""
    return web.json_response(request.app[DONE])


def application() -> web.Application:
    """Return the application."""
    app = web.Application()
    app[DONE] = []
    app.cleanup_ctx.append(connected)
    app.router.add_get("/done", done)
    return app


if __name__ == "__main__":
    web.run_app(application(), port=int(os.environ.get("PORT", "8080")))
