"""A cluster in memory, for tests: a server, networks and a clock that a test controls (extra ``testing``).

- `Cluster`: nodes and their server, on a clock that the test advances;
- `AioCluster`, `BlockingCluster`: the same for `coord.aio` and `coord.blocking`, in real time;
- `MemoryServer`: the server; a test stops, hangs, flushes and restarts it;
- `MemoryEndpoint`, `MemoryConnection`: a node's network, and one connection; a test cuts, stalls and slows them;
- `Delivery`, `Deliver`: a delivery in flight on a network, and the function that returns its delay.

Coord's own tests extend the server (`tests/memory`): `MemoryServer.accept` creates the server's end of a connection,
`ServerConnection.serve` the object that runs its commands, and `Commands.own` lists those that fakeredis lacks.
"""

from coord.testing._cluster import Cluster
from coord.testing._endpoint import MemoryConnection, MemoryEndpoint
from coord.testing._real_time import AioCluster, BlockingCluster
from coord.testing._server import MemoryServer
from coord.testing._transport import Deliver, Delivery

__all__ = [
    "AioCluster",
    "BlockingCluster",
    "Cluster",
    "Deliver",
    "Delivery",
    "MemoryConnection",
    "MemoryEndpoint",
    "MemoryServer",
]
