"""A cluster in memory whose server can do all that `memory.server` can."""

from __future__ import annotations

from coord import testing
from memory.server import MemoryServer

__all__ = ["Cluster"]


class Cluster(testing.Cluster):
    """See `coord.testing.Cluster`."""

    server: MemoryServer

    def __init__(self) -> None:
        super().__init__(MemoryServer)
