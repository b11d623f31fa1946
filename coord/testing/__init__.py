"""A cluster in memory, for tests: a server, networks and a clock that do as they are told (extra ``testing``).

- `Cluster`: nodes and their server, on a clock that the test moves;
- `MemoryServer`: the server; it stops, hangs, forgets its data, and comes back;
- `MemoryEndpoint`, `MemoryConnection`: a node's network, and one connection of it; they are cut, stalled and slowed;
- `Delivery`, `Deliver`: what is under way on a network, and what decides for how long.

Coord's own tests extend the server (`tests/memory`): `MemoryServer.accept` makes the server's end of a connection,
`ServerConnection.serve` what carries out its commands, and `Commands.own` is the table of those that fakeredis lacks.
"""

from coord.testing._cluster import Cluster
from coord.testing._endpoint import MemoryConnection, MemoryEndpoint
from coord.testing._server import MemoryServer
from coord.testing._transport import Deliver, Delivery

__all__ = [
    "Cluster",
    "Deliver",
    "Delivery",
    "MemoryConnection",
    "MemoryEndpoint",
    "MemoryServer",
]
