"""One node, independent of its servers: its identity, settings, status and counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coord.session.counters import Counters
from coord.session.link_status import LinkStatus
from coord.session.settings import Settings
from coord.session.threads import ReactorThread

__all__ = ["Node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all sessions of a node share.

    ``incarnation`` is the UUID of this life of the node; ``clock`` stands in for the reactor (`coord.clock`). ``alone``
    names the map that a session serves alone, on a cluster.
    """

    namespace: str
    name: str
    incarnation: str
    settings: Settings
    clock: Any
    thread: ReactorThread
    link_status: LinkStatus = field(default_factory=LinkStatus)
    counters: Counters = field(default_factory=Counters)
    alone: str = ""
