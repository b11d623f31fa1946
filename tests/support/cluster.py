"""A cluster for one test: a server, nodes, and a look at what is left of them afterwards."""

from __future__ import annotations

import gc
from typing import Any, Final, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord import Coordinator, EventMap, LinkState, connect
from coord.clock import steady
from coord.link import link
from support.cases import Case
from support.gate import Gate
from support.servers import MemoryKind, Server
from support.waiting import eventually, until

__all__ = ["HEARTBEAT", "Cluster", "Seen", "failure_of", "latched"]

HEARTBEAT: Final = 0.5
"""Seconds between beats where a test names none: a server that hangs is noticed within two."""


class Seen:
    """Keeps what became of a Deferred, in order, and how often."""

    def __init__(self, *deferreds: Deferred[Any]) -> None:
        self.values: list[Any] = []
        self.errors: list[BaseException] = []
        for deferred in deferreds:
            self.watch(deferred)

    def watch(self, deferred: Deferred[Any]) -> None:
        """Keep what becomes of this one too."""
        deferred.addCallbacks(self.values.append, lambda failure: self.errors.append(failure.value))

    @property
    def count(self) -> int:
        """How many were resolved, either way."""
        return len(self.values) + len(self.errors)


def failure_of(deferred: Deferred[Any]) -> BaseException | None:
    """Return the error that a Deferred has now, if any."""
    seen = Seen(deferred)
    return seen.errors[0] if seen.errors else None


async def latched(events: EventMap, key: str) -> bool:
    """Ask the server whether a key is latched."""
    record = await events.record(key)
    return record is not None and record.latched


class Cluster:
    """What a test gets: ``server`` and its faults, ``node()`` for a coordinator."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.case: Case = cast(Case, None)
        self._nodes: list[Coordinator] = []
        self._leftovers = False

    @property
    def memory(self) -> Any:
        """The server in memory; only for tests that run on no other."""
        assert isinstance(self.server, MemoryKind)
        return self.server.memory

    def node(self, name: str = "n", address: Any = None, **options: Any) -> Coordinator:
        """Return a node that connects in the background; closed at the end."""
        options.setdefault("heartbeat", HEARTBEAT)
        options.setdefault("timeout", 15.0)
        node = connect(self.server.address() if address is None else address, node=name, **options)
        self._nodes.append(node)
        return node

    async def linked(self, name: str = "n", **options: Any) -> Coordinator:
        """Return a node whose link is up."""
        node = self.node(name, **options)
        await node.connected(timeout=10)
        return node

    async def gated(self, name: str = "n", **options: Any) -> tuple[EventMap, Gate]:
        """Return the map ``m`` of a new node whose link is up, and the gate on its way to the server."""
        gate = Gate(self.server.endpoint())
        return await self.map(name, address=gate, **options), gate

    async def map(self, name: str = "n", **options: Any) -> EventMap:
        """Return the map ``m`` of a new node whose link is up."""
        return (await self.linked(name, **options)).events("m")

    async def state(self, node: Coordinator, state: LinkState) -> None:
        """Return once the link is in this state."""
        await until(lambda: node.link is state, f"the link is {state}")

    def of(self, events: EventMap) -> Coordinator:
        """Return the node whose map this is."""
        return next(node for node in self._nodes if node.events(events.name) is events)

    def reconnect_quickly(self) -> None:
        """Have nodes made from now on wait only 10 ms before another attempt: more faults fit a second."""
        self.case.patch(link, "backoff", lambda: lambda _: 0.01)  # type: ignore[no-untyped-call]

    def logged(self, *types: type[Exception]) -> list[Failure]:
        """Return what was logged as an error since the last look; it no longer fails the test."""
        # What a handler raised stays in a cycle with its traceback, and is logged when that is collected.
        gc.collect()
        failures: list[Failure] = self.case.flushLoggedErrors(*types)  # type: ignore[no-untyped-call]
        return failures

    def may_leave_waiters(self) -> None:
        """Say that the test ends with waiters or calls that nothing has resolved."""
        self._leftovers = True

    # Before and after.

    async def begin(self, case: Case) -> None:
        """Get the server ready."""
        self.case = case
        await self.server.begin()

    async def end(self) -> None:
        """Look whether the test left waiters; close the nodes; look whether they left anything on the server."""
        try:
            if not self._leftovers:
                for node in self._nodes:
                    await self._idle(node)
        finally:
            for node in self._nodes:
                await node.close()
            await self.server.begin()
            # What goes on in turns of its own, as connections in memory do, is over before trial looks at the reactor.
            await until(lambda: not steady(reactor).getDelayedCalls(), "no timer is left")
        await eventually(self._nobody, "no connection and no subscription is left")

    async def _idle(self, node: Coordinator) -> None:
        now = node.statistics()
        assert now.waiters == 0, now
        # Each node makes calls of its own, such as that which ends an event whose time is over.
        await until(lambda: node.statistics().pending_calls == 0, "no call is left")
        await until(
            lambda: node.statistics().subscriptions == node.statistics().cached,
            "only the cache keeps subscriptions",
        )

    async def _nobody(self) -> bool:
        return not await self.server.channels() and await self.server.connections() == 0
