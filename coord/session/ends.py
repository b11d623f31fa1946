"""Ends of events that have a TTL, and of holders whose lease is over.

No timer runs for them on the server. Whoever finds one, in a sweep or a read, makes a call that ends it: numbered as
all calls, and conditional, so that any number of nodes may make it. Until then, an event whose TTL is over counts as
ended wherever it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.calls import Call
from coord.core.maps import MapState
from coord.core.names import parse_key
from coord.core.records import EXPIRED
from coord.errors import Error
from coord.session.node import Node

__all__ = ["Ends"]


class Ends:
    """Makes the calls that end events and holders.

    :param call: queues a call of a map.
    :param order: returns the next number in the order of this node's waits and calls.
    """

    log = Logger()

    def __init__(self, node: Node, call: Callable[[MapState, Call], None], order: Callable[[], int]) -> None:
        self._node = node
        self._call = call
        self._order = order
        self._under_way: set[tuple[str, bytes, bytes]] = set()

    def end(self, map_state: MapState, letter: int, key: bytes, data: bytes) -> Deferred[bool]:
        """Make the call with this letter and these data, which ends an event (E) or a holder (D).

        :returns: whether the server has answered; at once if such a call is under way already.
        """
        event = map_state.names.name, key, data
        if event in self._under_way:
            return succeed(True)
        if parse_key(key) is None:
            # Another program wrote it. The call would be refused, with all others of its batch.
            return succeed(False)
        self._under_way.add(event)
        deadline = self._node.clock.seconds() + self._node.settings.timeout
        result: Deferred[Any] = Deferred()
        ended = result.addBoth(self._ended, event)
        self._call(map_state, Call(EXPIRED, key, data, deadline, self._order(), result, letter=letter))
        return ended

    def _ended(self, result: Any, event: tuple[str, bytes, bytes]) -> bool:
        self._under_way.discard(event)
        if isinstance(result, Failure):
            # No permission, or no answer: another node or a later sweep will do it.
            result.trap(Error)
            self.log.debug("what is over is not ended: {error}", error=result.value)
        return not isinstance(result, Failure)
