"""A move of a map's slot that is under way, as the map's link follows it: a guest at the target.

The target cannot tell a key that is yet to come from one that does not exist, nor does it hear that the move was called
off. So what it does not have is asked of the source, too, and at each heartbeat the source is asked for the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from twisted.python.failure import Failure

from coord.core.names import HEAD
from coord.core.slots import Address, Atlas
from coord.link.replies import LinkLeft, ServerError

if TYPE_CHECKING:
    # It imports txredisapi and OpenSSL.
    from coord.link.shard_connections import ShardConnections

__all__ = ["HALF", "Guest", "OpenMove", "Server", "Servers"]

HALF: Final = "TRYAGAIN not all keys of the map have moved"

_READS: Final = (b"HMGET", b"HGET", b"HSCAN", b"ZRANGEBYLEX", b"ZSCORE", b"ZLEXCOUNT")
"""What reads one key of the map: a guest is told that there is nothing, if that key has not come yet."""


class Server(Protocol):
    """One server of the cluster, as a move needs it."""

    address: Address

    @property
    def connections(self) -> ShardConnections | None:
        """The open link; ``None`` without one."""

    def use(self) -> None:
        """Keep the link for another while, though no map may be there."""


class Servers(Protocol):
    """The servers of the cluster, as a move needs them."""

    atlas: Atlas

    def shard(self, address: Address) -> Any:
        """Return the server at an address; its link is made if there is none."""


class Guest(Protocol):
    """The map's link."""

    slot: int
    records: bytes

    def is_in(self, stay: int) -> bool:
        """Whether this is still the number of its stay at a server."""

    def return_home(self, reason: str) -> None:
        """Leave the target, and go to the slot's server."""


class OpenMove:
    """See the module's docstring.

    :param target: the server that ASK has named.
    :param source: the one that has said so.
    """

    def __init__(self, guest: Guest, servers: Servers, target: Address, source: Server) -> None:
        self.target = target
        self._source: Server | None = source
        self._guest = guest
        self._servers = servers

    def end(self) -> None:
        """Doubt nothing any more: the map is no guest now."""
        self._source = None

    def check_nothing(self, reply: Any, args: tuple[bytes, ...], stay: int) -> Any:
        """Doubt that there is nothing: if the move was called off and begun anew, a guest reads where no data are.

        :param args: the command that the target has answered.
        """
        source = self._source if self._guest.is_in(stay) else None
        if args[0] not in _READS or not _is_nothing(reply) or source is None or source.connections is None:
            return reply
        answer = source.connections.command.ask(*args)
        if args[1] == self._guest.records:
            return answer.addCallbacks(self._called_off, lambda _: reply, (source, stay))
        # The holders have a key of their own, as acknowledgements do, and it may move later than the map's records.
        return answer.addCallbacks(self._not_moved, lambda _: reply)

    @staticmethod
    def _not_moved(_: object) -> NoReturn:
        """Have it asked again after a pause; a heartbeat tells if the move was called off."""
        raise ServerError(HALF)

    def ask_source(self, stay: int) -> None:
        """Ask the source for the head: the session may read nothing, and its calls are only put off at the target.

        Or there is no link to the target yet, and perhaps there will never be one.
        """
        source = self._find_source()
        if source is None:
            return
        # No map is there, and the link would be closed for that.
        source.use()
        if source.connections is not None:
            answer = source.connections.command.ask(b"HMGET", self._guest.records, HEAD)
            answer.addCallbacks(self._called_off, self._find_another, (source, stay), errbackArgs=(source,))
            answer.addErrback(lambda _: None)

    def _find_source(self) -> Server | None:
        """Return the source, or the server that has replaced it."""
        owner = self._servers.atlas.owner(self._guest.slot)
        lost = self._source is None or self._source.connections is None
        if lost and owner is not None and owner != self.target:
            self._source = self._servers.shard(owner)
        return self._source

    def _find_another(self, failure: Failure, source: Server) -> None:
        """Ask another server the next time, if this one has not the slot."""
        if str(failure.value).startswith("MOVED ") and self._source is source:
            self._source = None

    def _called_off(self, _: object, source: Server, stay: int) -> NoReturn:
        reason = f"{source.address} serves the map again: its move was called off"
        if self._guest.is_in(stay):
            self._guest.return_home(reason)
        raise LinkLeft(reason)

    def call_across(self, channels: Sequence[bytes]) -> None:
        """Have those read again who still listen at the source: no message of the target reaches them.

        If one of these words is lost, the next heartbeat's read tells them.
        """
        connections = None if self._source is None else self._source.connections
        if connections is not None and not connections.maps.classic:
            for channel in channels:
                connections.command.ask(b"SPUBLISH", channel, b"x").addErrback(lambda _: None)


def _is_nothing(reply: Any) -> bool:
    """Whether this is the answer to a question about a key that is not there."""
    # HSCAN begins with the cursor, which is 0 where there is no more.
    return not (any(each != b"0" and each for each in reply) if isinstance(reply, list) else reply)
