"""Calls that a node makes on behalf of others: a gateway, for the principals of its requests."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from coord.client.acks import ack_key, change_of
from coord.client.events import EventMap
from coord.core.names import acks_of, check_name
from coord.core.records import Record, Revision

__all__ = ["ActingMap"]


class ActingMap(EventMap):
    """A map whose calls are those of a ``principal``: records name it, as ``NODE.PRINCIPAL``.

    Names of calls (``once=``) are its own: the same name means another call if another principal, or a node, uses it.
    """

    def __init__(self, events: EventMap, principal: str) -> None:
        super().__init__(events._session, events.name)
        self._caller = check_name("principal", principal)
        self._called_by = check_name("node", f"{self._session.node.name}.{principal}")

    def acknowledge(self, revision: Record | Revision | str, name: str, process: str) -> Deferred[None]:
        """Acknowledge a change under a name that is not this node's; see ``EventMap.ack``.

        :param process: the incarnation of the member that acknowledges; anything for a name without members.
        """
        self._thread.check()
        key = ack_key(change_of(revision, self.name)[0], check_name("node", name), process)
        acks = ActingMap(EventMap(self._session, acks_of(self.name)), self._caller)
        return acks.pulse(key).addCallback(lambda _: None)
