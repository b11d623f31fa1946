"""coord: ``defaultdict(Deferred)`` for a whole cluster.

::

    c = coord.connect("redis://localhost:6379")
    on_mount = c.events("mount")
    on_mount["abc"].addCallback(hooray)             # before or after the event, on any node
    await on_mount.fire("abc", {"at": "/mnt/abc"})  # wakes every waiter of the cluster

The layers, from top to bottom; imports run down only:

============  =======================================================================================
applications  `coord.cli`, `coord.doctor`, `coord.mounts`
public API    this file; `coord.aio` for asyncio, `coord.blocking` for threads; `coord.testing`, `coord.embedded`
client        `coord.client`: the coordinator, maps, waits and watches - Deferreds and nothing else
session       `coord.session`: drives the core: link events in, commands out
link          `coord.link`: two connections kept up as one, URLs, scripts; the only user of txredisapi
clock         `coord.clock`: a steady clock, independent of the wall clock; `coord.reactors`: private reactors
core          `coord.core`: no I/O, no clock, no Twisted; every decision about a key
errors        `coord.errors`: every error that coord raises
============  =======================================================================================
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coord.client.coordinator import Coordinator, CoordinatorService, Statistics, connect, service
    from coord.client.events import EventMap
    from coord.client.holds import Hold, Holder
    from coord.client.locks import Lock
    from coord.client.watch import Watch
    from coord.core.acks import Acks
    from coord.core.names import MEMBERS
    from coord.core.records import Applied, CaughtUp, Counted, Kind, Listing, Page, Record, Revision
    from coord.core.values import Json
    from coord.embedded.launch import launch
    from coord.errors import (
        AccessDenied,
        Closed,
        CorruptRecord,
        Error,
        EventFailed,
        HistoryLost,
        HoldLost,
        InvalidInput,
        InvalidKey,
        InvalidName,
        InvalidTime,
        InvalidURL,
        InvalidValue,
        ListingLost,
        NameReused,
        NewerLayout,
        NoEmbeddedServer,
        NotReplicated,
        OtherGoal,
        ServerRefused,
        TimedOut,
        Unacknowledged,
        Unconfirmed,
        Unreachable,
        WrongKind,
    )
    from coord.link.link import LinkState
    from coord.session.sessions import LinkInfo
else:
    # Importing Twisted takes longer than most commands run: import the modules above on the first use of one of these
    # names (PEP 562). Type checkers do not see this branch, because they would accept any name.
    from importlib import import_module

    # The cheapest imports first.
    _MODULES = (
        "errors",
        "core.names",
        "core.values",
        "core.acks",
        "core.records",
        "link.link",
        "client.watch",
        "client.holds",
        "client.locks",
        "client.events",
        "session.sessions",
        "client.coordinator",
        "embedded.launch",
    )

    def __getattr__(name):
        if name in __all__:
            modules = (import_module(f"coord.{path}") for path in _MODULES)
            globals()[name] = found = next(getattr(module, name) for module in modules if name in module.__all__)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "MEMBERS",
    "AccessDenied",
    "Acks",
    "Applied",
    "CaughtUp",
    "Closed",
    "Coordinator",
    "CoordinatorService",
    "CorruptRecord",
    "Counted",
    "Error",
    "EventFailed",
    "EventMap",
    "HistoryLost",
    "Hold",
    "HoldLost",
    "Holder",
    "InvalidInput",
    "InvalidKey",
    "InvalidName",
    "InvalidTime",
    "InvalidURL",
    "InvalidValue",
    "Json",
    "Kind",
    "LinkInfo",
    "LinkState",
    "Listing",
    "ListingLost",
    "Lock",
    "NameReused",
    "NewerLayout",
    "NoEmbeddedServer",
    "NotReplicated",
    "OtherGoal",
    "Page",
    "Record",
    "Revision",
    "ServerRefused",
    "Statistics",
    "TimedOut",
    "Unacknowledged",
    "Unconfirmed",
    "Unreachable",
    "Watch",
    "WrongKind",
    "connect",
    "launch",
    "service",
]
