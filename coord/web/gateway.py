"""What all requests share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed

from coord.client.coordinator import Coordinator
from coord.client.events import EventMap
from coord.core.names import MEMBERS
from coord.link.target import Target
from coord.web.addresses import Address, Client
from coord.web.config import Config
from coord.web.limits import LimitSet
from coord.web.problems import Problem
from coord.web.rights import ANONYMOUS, Principal, Rights
from coord.web.tally import Tally
from coord.web.tokens import Tokens

__all__ = ["Gateway"]

T = TypeVar("T")

READER = ("read:*",)
"""What anybody on this machine may do by a loopback address, if the settings do not say."""

OWNER = ("read:*", "write:*", "hold:*", "lock:*", "count:*", "ack:*", "join:*", "metrics")
"""The same by a unix socket, which only its owner can open."""

_CHECKED_EVERY = 1.0


class Pending(Protocol):
    """A request that is not answered yet: see `coord.web.exchange.Exchange`."""

    principal: Principal
    long: bool

    def end(self, why: BaseException | None) -> None:
        """End it."""


class Gateway:
    """The coordinators, the settings, and the parts that serve many requests.

    ``coordinator`` is the link of most requests. ``slow`` is another, for what takes long on its connection: listings,
    catch-ups, and calls that want replicas; it may be the same one. ``clock`` is the reactor's, ``name`` the node's,
    ``limits`` and ``tally`` what is limited and counted. ``stopping`` says that the end has begun. ``log``, if it is
    set, gets a line for each request.

    :param clock: a reactor, or a clock that has ``seconds`` and ``callLater``.
    :param key: signs cookies; with `None` they are good until the gateway ends.
    :param target: where the coordinators connect to; the servers of a cluster are examined there.
    :param now: the time in seconds since the epoch.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        config: Config,
        *,
        clock: Any,
        slow: Coordinator | None = None,
        key: bytes | None = None,
        target: Target | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.coordinator = coordinator
        self.slow = slow or coordinator
        self.clock = clock
        self.now = now
        self.target = target
        self.name = coordinator.node
        self.stopping = False
        self.log: Callable[[str], None] | None = None
        self.tally = Tally()
        self.limits = LimitSet(config.limits, clock.seconds)
        self.exchanges: set[Pending] = set()
        self._parts: dict[Callable[[Gateway], Any], Any] = {}
        self._checking: Any = None
        self._idle: Deferred[None] | None = None
        self._key = key or secrets.token_bytes(32)
        self.configure(config)

    # Settings.

    def configure(self, config: Config, key: bytes | None = None) -> None:
        """Take other settings; raise `InvalidInput` and change nothing if they are invalid.

        Requests whose principal has other rights now, or none, are ended.
        """
        config.check()
        self._key = key or self._key
        self.config = config
        self.tokens = Tokens(config, self._key, self.now)
        self.limits.configure(config.limits)
        words = (READER, OWNER, ()) if config.anonymous is None else (config.anonymous,) * 3
        self._loopback, self._unix, self._beyond = (
            Principal(ANONYMOUS, Rights(each), proof=where)
            for where, each in zip(("loopback", "unix", "beyond"), words, strict=True)
        )
        for exchange in list(self.exchanges):
            try:
                exchange.principal = self.again(exchange.principal)
            except Problem as problem:
                exchange.end(problem)
        if any(exchange.principal.expires is not None for exchange in self.exchanges):
            self._check_later()

    def anonymous(self, listener: Address, client: Client) -> Principal:
        """Return who shows no token, and connected to an address of ours."""
        if not client.address:
            # A proxy that uses the socket, and does not say for whom, may let in anybody.
            return self._unix if client.direct else self._beyond
        # A proxy of this machine may let in anybody.
        return self._loopback if client.local and not listener.beyond else self._beyond

    def again(self, principal: Principal) -> Principal:
        """Return the principal of a request that is under way, as the settings are now.

        Raises the `Problem` 401 if it has not the rights any more with which the request began.
        """
        if principal.anonymous:
            now = principal if principal in (self._loopback, self._unix, self._beyond) else None
        else:
            now = self.tokens.again(principal)
        if now is None:
            raise Problem("unauthorized", "the token's rights were changed or taken back")
        return now

    # Requests.

    def events(self, map_name: str, *, slow: bool = False) -> EventMap:
        """Return a map, that of the members included; raise `InvalidName`."""
        coordinator = self.slow if slow else self.coordinator
        return coordinator.members if map_name == MEMBERS else coordinator.events(map_name)

    def begin(self, exchange: Pending) -> None:
        """Keep an exchange until `forget`, to end it when its token does."""
        self.exchanges.add(exchange)
        if exchange.principal.expires is not None:
            self._check_later()

    def forget(self, exchange: Pending) -> None:
        """Its request is over."""
        self.exchanges.discard(exchange)
        if self._idle is not None and not self._busy:
            idle, self._idle = self._idle, None
            idle.callback(None)

    @property
    def _busy(self) -> bool:
        return not all(each.long for each in self.exchanges)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no request is under way but waits and streams."""
        if not self._busy:
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _check_later(self) -> None:
        if self._checking is None:
            self._checking = self.clock.callLater(_CHECKED_EVERY, self._check)

    def _check(self) -> None:
        """End what began with a token that has expired since; one timer for all."""
        self._checking = None
        now = self.now()
        mortal = [each for each in self.exchanges if each.principal.expires is not None]
        for exchange in mortal:
            if (exchange.principal.expires or now) <= now:
                exchange.end(Problem("unauthorized", "the token has expired"))
        if mortal:
            self._check_later()

    # Parts.

    def part(self, make: Callable[[Gateway], T]) -> T:
        """Return what ``make(gateway)`` returns: made on the first call, and then the same.

        If it has a method ``close``, the gateway calls that when it stops, and waits for what it returns.
        """
        if make not in self._parts:
            self._parts[make] = make(self)
        part: T = self._parts[make]
        return part

    async def close(self) -> None:
        """End all parts. The coordinators are their owner's."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        parts, self._parts = list(self._parts.values()), {}
        for part in parts:
            if close := getattr(part, "close", None):
                ending: Awaitable[None] | None = close()
                if ending is not None:
                    await ending
