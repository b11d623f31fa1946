"""Coord for asyncio: on whatever loop runs, with futures in place of Deferreds.

::

    async with coord.aio.connect("redis://localhost:6379") as c:
        on_mount = c.events("mount")
        value = await on_mount["abc"]                   # before or after the event, on any node
        async with asyncio.timeout(5):
            await on_mount.wait_all(["a", "b"])
        await on_mount.fire("abc", {"at": "/mnt/abc"})

Names, records and errors are those of ``coord``. All that it asks the server returns an ``asyncio.Future`` and is on
its way at once, awaited or not: so what is asked in one go travels together, and calls are applied in their order.
Cancelling a wait takes it back; a call that was sent may be applied all the same.

It is Twisted underneath, on a reactor of its own for each loop, which is never installed.
"""

from coord.aio.coordinator import Coordinator, connect
from coord.aio.events import EventMap
from coord.aio.holds import Barrier, Hold, Holding, Lock
from coord.aio.watch import Watch

__all__ = ["Barrier", "Coordinator", "EventMap", "Hold", "Holding", "Lock", "Watch", "connect"]
