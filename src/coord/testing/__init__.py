"""A cluster in memory, for tests: servers, networks and clocks that do as they are told."""

from coord.testing._endpoint import MemoryConnection, MemoryEndpoint
from coord.testing._server import MemoryServer, Snapshot
from coord.testing._transport import Deliver, Delivery

__all__ = [
    "Deliver",
    "Delivery",
    "MemoryConnection",
    "MemoryEndpoint",
    "MemoryServer",
    "Snapshot",
]
