"""One node of the cluster under asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, NoReturn, Self, TypeVar, Unpack
from weakref import WeakValueDictionary

from coord.aio.answers import Home, answer
from coord.aio.events import EventMap
from coord.aio.holds import Hold, Holding, holding
from coord.aio.reactor import LoopReactor
from coord.client import coordinator
from coord.client import events as twisted_events
from coord.client.coordinator import Statistics
from coord.client.options import OwnOptions
from coord.link.link import LinkState
from coord.link.urls import DEFAULT_URL, Address
from coord.session.sessions import LinkInfo

__all__ = ["Coordinator", "connect"]

T = TypeVar("T")


class Coordinator:
    """One node; made by `connect`, for the loop that runs then. See ``coord.Coordinator``.

    ``namespace``, ``node``, ``incarnation`` and ``server`` say what it is. On another loop or thread, all methods raise
    `RuntimeError`; in a forked child, `Closed`.
    """

    def __init__(self, address: Address, **options: Unpack[OwnOptions]) -> None:
        self._home = Home()
        self._reactor = LoopReactor.acquire(self._home.loop)
        self._released = False
        try:
            # In no request's context: see `LoopReactor`.
            self._node = Context().run(coordinator.connect, address, reactor=self._reactor, **options)
        except BaseException:
            self._reactor.release()
            raise
        self.namespace = self._node.namespace
        self.node = self._node.node
        self.incarnation = self._node.incarnation
        self.server = self._node.server
        self._maps: WeakValueDictionary[str, EventMap] = WeakValueDictionary()

    def __repr__(self) -> str:
        return repr(self._node)

    def __copy__(self) -> Coordinator:
        return self

    def __reduce__(self) -> NoReturn:
        self._node.__reduce__()

    def events(self, name: str) -> EventMap:
        """Return the map of that name; the same object as long as a reference to it exists. Raises `InvalidName`."""
        self._home.check()
        return self._map(self._node.events(name))

    @property
    def members(self) -> EventMap:
        """The map of the namespace's members: a key for each node that has joined, with what it says of itself."""
        self._home.check()
        return self._map(self._node.members)

    def _map(self, events: twisted_events.EventMap) -> EventMap:
        found = self._maps.get(events.name)
        if found is None:
            found = self._maps[events.name] = EventMap(self._home, events)
        return found

    def join(self, value: object = True, *, timeout: float | None = None, cancel: bool = True) -> Holding[Hold]:
        """Be a member, under this node's name and with a JSON ``value``, until that is withdrawn; see `EventMap.hold`.

        Several processes may share a name: the member is gone with the last.
        """
        self._home.check()
        return holding(self._home, self._node.join(value, timeout=timeout), cancel=cancel)

    def maps(self) -> asyncio.Future[tuple[str, ...]]:
        """List the maps of the namespace for which the server has data; `AccessDenied` if the user may not SCAN."""
        self._home.check()
        return answer(self._node.maps())

    @property
    def link(self) -> LinkState:
        """The current state of the link to the server."""
        return self._node.link

    @property
    def reason(self) -> str:
        """Why the link is in this state; without a link, why the last attempt failed."""
        return self._node.reason

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The links to the servers in use: one, or on a cluster one for each server that has a map of this node."""
        return self._node.links

    def connected(self, timeout: float | None = None) -> asyncio.Future[None]:
        """Return a future that is done when the link is up; it fails as ``coord.Coordinator.connected`` does."""
        self._home.check()
        return answer(self._node.connected(timeout))

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback(state, reason)`` in the loop at every change of the link; return what unregisters it."""
        self._home.check()
        loop, context, registered = self._home.loop, copy_context(), True

        def changed(state: LinkState, reason: str) -> None:
            loop.call_soon(call, state, reason, context=context)

        def call(state: LinkState, reason: str) -> None:
            if registered:
                callback(state, reason)

        def stop() -> None:
            nonlocal registered
            registered = False
            unregister()

        unregister = self._node.on_link(changed)
        return stop

    def statistics(self) -> Statistics:
        """Return a snapshot of what this node holds and has done."""
        self._home.check()
        return self._node.statistics()

    def execute(self, *args: bytes | str | int, at: str | None = None) -> asyncio.Future[Any]:
        """Send one raw command, for diagnosis, that may run twice; the reply comes as Redis gives it.

        :param at: on a cluster, the map whose server is meant.
        """
        self._home.check()
        return answer(self._node.execute(*args, at=at))

    def close(self, *, withdraw: bool = True) -> asyncio.Future[None]:
        """End this node; the future is done when the connections are gone.

        Pending waits and unsent calls fail with `Closed`, calls that were sent but not answered with `Unconfirmed`.

        :param withdraw: if it is false, all that this node holds ends with its lease, and not now.
        """
        self._home.check()
        return answer(self._node.close(withdraw=withdraw).addBoth(self._release))

    def _release(self, result: T) -> T:
        if not self._released:
            self._released = True
            self._reactor.release()
        return result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def connect(address: Address = DEFAULT_URL, **options: Unpack[OwnOptions]) -> Coordinator:
    """Return a coordinator for the running loop, at once; it connects in the background.

    Enter it with ``async with``, or ``close`` it at the end.

    The address and the options are those of ``coord.connect``, but for ``reactor``.

    :raises InvalidURL, InvalidName, InvalidTime, InvalidInput: before anything is sent.
    :raises RuntimeError: no loop runs.
    """
    return Coordinator(address, **options)
