"""One server, as a link needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from coord.link.discovery import Resolver
from coord.link.passwords import Password

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One server: how to find it, our credentials, and its name in messages."""

    shown: str
    resolver: Callable[[], Resolver] = field(repr=False)
    username: str | None = None
    password: Password | None = field(default=None, repr=False)
    database: int = 0
