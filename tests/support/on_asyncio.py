"""A program of somebody who runs Twisted on asyncio: `python on_asyncio.py URL`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor

import coord


async def main(url: str) -> None:
    """Await a waiter as asyncio does."""
    loop = asyncio.get_running_loop()
    node = coord.connect(url)
    events = node.events("m")
    waiting = events["k"].asFuture(loop)
    applied = await events.fire("k", "on asyncio").asFuture(loop)
    assert applied.first
    sys.stdout.write(f"{await asyncio.wait_for(waiting, 20)}\n")
    await node.close().asFuture(loop)


if __name__ == "__main__":
    chosen = asyncio.new_event_loop()
    asyncioreactor.install(chosen)
    from twisted.internet import reactor

    running: Any = reactor
    running.startRunning()
    chosen.run_until_complete(main(sys.argv[1]))
