"""One server, as a link needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from coord.core.slots import Address
from coord.link.discovery import Resolved, Resolver
from coord.link.passwords import Password
from coord.link.tls import Tls

__all__ = ["ClusterTarget", "Target"]


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """A cluster: some of its servers, and how to reach them.

    ``remap`` returns the address at which a server is reached that announces another one. ``classic``: without sharded
    pub/sub.
    """

    seeds: tuple[Address, ...]
    scheme: str
    tls: Tls | None = None
    remap: Callable[[Address], Address] = lambda address: address
    classic: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One server: how to find it, our credentials, and its name in messages. ``cluster``: that of which it is one."""

    shown: str
    resolver: Callable[[], Resolver] = field(repr=False)
    username: str | None = None
    password: Password | None = field(default=None, repr=False)
    database: int = 0
    cluster: ClusterTarget | None = None

    def at(self, found: Resolved, shown: str) -> Target:
        """Return the target for one server that was found; without a password of its own, with that of the server."""
        own = self.password is not None or bool(self.username)
        return replace(self, shown=shown, password=self.password if own else found.password)
