"""One node of the cluster for threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, NoReturn, Self, Unpack
from weakref import WeakValueDictionary

from coord.blocking.bridge import Bridge
from coord.blocking.events import EventMap
from coord.blocking.holds import Hold
from coord.blocking.thread import child_lock, refuse_patched_threads
from coord.client.coordinator import Statistics
from coord.client.options import OwnOptions
from coord.core.names import MEMBERS, check_name
from coord.errors import Closed
from coord.link.link import LinkState
from coord.link.urls import DEFAULT_URL, Address
from coord.session.sessions import LinkInfo

__all__ = ["Coordinator", "connect"]


class Coordinator:
    """One node; made by `connect`. Any thread may use it. See ``coord.Coordinator``.

    ``namespace``, ``node``, ``incarnation`` and ``server`` say what it is. After a fork, the child's next call makes a
    node of its own with the same options; what the parent waits for and holds stays the parent's.
    """

    def __init__(self, address: Address, **options: Unpack[OwnOptions]) -> None:
        refuse_patched_threads()
        self._address = address
        self._options = options
        self._made = Bridge(address, **options)
        node = self._made.node
        self.namespace, self.node, self.server = node.namespace, node.node, node.server
        self._maps: WeakValueDictionary[str, EventMap] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Coordinator {self.node} at {self.server}: {self.link}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a coordinator and its parts cannot be copied or pickled: connect in the other process")

    @property
    def _bridge(self) -> Bridge:
        made = self._made
        return made if made.is_here else self._make_again(made)

    def _make_again(self, inherited: Bridge) -> Bridge:
        """Make a node of its own in the child of a fork."""
        with child_lock():
            if self._made is inherited and inherited.forget():
                self._made = Bridge(self._address, **self._options)
            return self._made

    @property
    def incarnation(self) -> str:
        """A UUID that is new for each coordinator, and in each process."""
        return self._bridge.node.incarnation

    def events(self, name: str) -> EventMap:
        """Return the map of that name; the same object as long as a reference to it exists. Raises `InvalidName`."""
        return self._map(check_name("map", name))

    @property
    def members(self) -> EventMap:
        """The map of the namespace's members: a key for each node that has joined, with what it says of itself."""
        return self._map(MEMBERS)

    def _map(self, name: str) -> EventMap:
        return self._maps.setdefault(name, EventMap(lambda: self._bridge, self.namespace, name))

    def join(self, value: object = True, *, timeout: float | None = None) -> Hold:
        """Be a member, under this node's name and with a JSON ``value``, until that is withdrawn.

        Several processes may share a name: the member is gone with the last.
        """
        return self.members.hold(self.node, value, timeout=timeout)

    def maps(self) -> tuple[str, ...]:
        """List the maps of the namespace for which the server has data; `AccessDenied` if the user may not SCAN."""
        bridge = self._bridge
        return bridge.ask(bridge.node.maps)

    @property
    def link(self) -> LinkState:
        """The current state of the link to the server."""
        return self._bridge.node.link

    @property
    def reason(self) -> str:
        """Why the link is in this state; without a link, why the last attempt failed."""
        return self._bridge.node.reason

    @property
    def links(self) -> tuple[LinkInfo, ...]:
        """The links to the servers in use: one, or on a cluster one for each server that has a map of this node."""
        bridge = self._bridge
        return bridge.call(lambda: bridge.node.links)

    def connected(self, timeout: float | None = None) -> None:
        """Return once the link is up; it raises as ``coord.Coordinator.connected`` errbacks."""
        bridge = self._bridge
        bridge.ask(lambda: bridge.node.connected(timeout))

    def on_link(self, callback: Callable[[LinkState, str], None]) -> Callable[[], None]:
        """Call ``callback(state, reason)`` at every change of the link; return a function that unregisters it.

        It is called in the reactor's thread, where blocking calls raise.
        """
        bridge, context = self._bridge, copy_context()

        def changed(state: LinkState, reason: str) -> None:
            context.run(callback, state, reason)

        unregister = bridge.call(lambda: bridge.node.on_link(changed))

        def stop() -> None:
            with suppress(Closed):
                bridge.call_anywhere(unregister)

        return stop

    def statistics(self) -> Statistics:
        """Return a snapshot of what this node holds and has done."""
        bridge = self._bridge
        return bridge.call(bridge.node.statistics)

    def execute(self, *args: bytes | str | int, at: str | None = None) -> Any:
        """Send one raw command, for diagnosis, that may run twice; the reply comes as Redis gives it.

        :param at: on a cluster, the map whose server is meant.
        """
        bridge = self._bridge
        return bridge.ask(lambda: bridge.node.execute(*args, at=at))

    def close(self, *, withdraw: bool = True) -> None:
        """End this node, and return when its connections are gone.

        Pending waits and unsent calls raise `Closed`, calls that were sent but not answered `Unconfirmed`. At the
        process's exit, what is still open is closed within 2 s.

        :param withdraw: if it is false, all that this node holds ends with its lease, and not now.
        """
        made = self._made
        if made.is_here:
            made.close(withdraw=withdraw)
        else:
            made.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(address: Address = DEFAULT_URL, **options: Unpack[OwnOptions]) -> Coordinator:
    """Return a coordinator at once; it connects in the background. Enter it with ``with``, or ``close`` it at the end.

    The address and the options are those of ``coord.connect``, but for ``reactor``.

    :raises InvalidURL, InvalidName, InvalidTime, InvalidInput: before anything is sent.
    :raises RuntimeError: gevent or eventlet has replaced the threads of this process.
    """
    return Coordinator(address, **options)
