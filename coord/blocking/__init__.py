"""Coord for threads: what waits for the server blocks the thread that asks.

::

    with coord.blocking.connect("redis://localhost:6379") as c:
        on_mount = c.events("mount")
        value = on_mount.wait("abc", timeout=30)        # before or after the event, on any node
        future = on_mount["abc"]                        # a concurrent.futures.Future; cancel() takes it back
        on_mount.fire("abc", {"at": "/mnt/abc"})
        on_mount.fire_all({"a": 1, "b": 2})             # in one go

Names, records and errors are those of ``coord``; any thread may use them. It is Twisted underneath, on a private
reactor in a thread of its own, which all coordinators of a process share. After a fork, the child's next call makes a
node of its own.
"""

from coord.blocking.coordinator import Coordinator, connect
from coord.blocking.events import EventMap
from coord.blocking.holds import Barrier, Hold, Lock
from coord.blocking.watch import Watch

__all__ = ["Barrier", "Coordinator", "EventMap", "Hold", "Lock", "Watch", "connect"]
