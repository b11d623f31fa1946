"""A cluster in memory, for tests: servers, networks and clocks that do as they are told (extra ``testing``)."""

from coord.testing._cluster import Cluster
from coord.testing._endpoint import MemoryConnection, MemoryEndpoint
from coord.testing._server import MemoryServer, Snapshot
from coord.testing._transport import Deliver, Delivery

__all__ = [
    "Cluster",
    "Deliver",
    "Delivery",
    "MemoryConnection",
    "MemoryEndpoint",
    "MemoryServer",
    "Snapshot",
]
