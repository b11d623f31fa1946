"""Sentinel: who is the primary of a service, and the news that it has changed.

Sentinels may disagree for a moment: one that was cut off still names the old primary. Every failover has a higher
configuration epoch (Redis' Sentinel documentation, "Configuration epochs"), so the answer with the highest one wins.
While a node is linked it listens to all sentinels, and leaves the old primary as soon as one of them tells of a
switch: a demoted primary goes on accepting writes for seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from coord.errors import Error, ServerRefused
from coord.link.backoff import backoff
from coord.link.connections import Connection, SubscriberConnection
from coord.link.places import Found, tcp_endpoint
from coord.link.replies import NoServer, ServerError
from coord.link.tls import Tls

__all__ = ["Sentinels"]

_PATIENCE = 1.0
"""Seconds for which one sentinel is waited for when the others have answered or failed."""

_SWITCH = b"+switch-master"


class Sentinels:
    """A service's primary, as a group of sentinels knows it; a `Place`.

    :param hosts: (host, port) of each sentinel.
    :param user: who we are to the sentinels: a name or ``None``, and a password or ``None``.
    """

    log = Logger()

    def __init__(
        self, hosts: Sequence[tuple[str, int]], service: str, user: tuple[str | None, str | None], tls: Tls | None
    ) -> None:
        self._hosts = hosts
        self._service = service
        self._user = user
        self._tls = tls

    def locate(self, clock: Any) -> Deferred[Found]:
        """Ask all sentinels; the newest answer wins.

        Errbacks `ServerRefused` where those that answer do not know the service, `NoServer` where none answers.
        """
        return Deferred.fromCoroutine(self._locate(clock))

    async def _locate(self, clock: Any) -> Found:
        asked = [Deferred.fromCoroutine(self._ask(clock, host, port)) for host, port in self._hosts]
        for answer in asked:
            answer.addTimeout(_PATIENCE, clock)
        gathered: Any = DeferredList(asked, consumeErrors=True)
        results = await gathered
        answers = [answer for succeeded, answer in results if succeeded]
        known = [answer for answer in answers if answer is not None]
        if known:
            _, host, port = max(known)
            return Found(tcp_endpoint(clock, host, port, self._tls), f"{host}:{port}")
        if answers:
            raise ServerRefused(f"the sentinels know no service named {self._service!r}")
        raise NoServer(f"no sentinel answers: {_reason(results[0][1])}")

    async def _ask(self, clock: Any, host: str, port: int) -> tuple[int, str, int] | None:
        """Return the epoch and address that one sentinel knows; ``None`` where it does not know the service."""
        connection = Connection(lambda _: None)
        await tcp_endpoint(clock, host, port, self._tls).connect(_factory(lambda: connection))
        try:
            await self._log_in(connection)
            reply = await connection.ask(b"SENTINEL", b"MASTER", self._service.encode())
        except ServerError as error:
            if "No such master" in str(error):
                return None
            raise
        finally:
            connection.transport.abortConnection()
        said = dict(zip(reply[::2], reply[1::2], strict=True))
        return int(said[b"config-epoch"]), said[b"ip"].decode(), int(said[b"port"])

    async def _log_in(self, connection: Connection) -> None:
        name, password = self._user
        if password is not None:
            await connection.ask(b"AUTH", *([name.encode()] if name else []), password.encode())

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:
        """Listen to every sentinel; see `coord.link.places.Place`."""

        def heard(payload: bytes) -> None:
            name, _, _, host, port = payload.decode(errors="replace").split(" ")
            if name == self._service:
                moved(f"{host}:{port}")

        services = [self._listen(clock, host, port, heard) for host, port in self._hosts]

        def stop() -> Deferred[None]:
            stopped: Any = DeferredList([service.stopService() or succeed(None) for service in services])
            return stopped.addCallback(lambda _: None)  # type: ignore[no-any-return]

        return stop

    def _listen(self, clock: Any, host: str, port: int, heard: Callable[[bytes], None]) -> ClientService:
        factory: Any = _factory(lambda: _Ear(heard))

        async def prepare(proxy: Any) -> None:
            try:
                await self._log_in(proxy)
                proxy.begin()
            except Exception:
                proxy.transport.abortConnection()
                raise

        service = ClientService(
            tcp_endpoint(clock, host, port, self._tls),
            factory,
            retryPolicy=backoff(),
            clock=clock,
            prepareConnection=lambda proxy: Deferred.fromCoroutine(prepare(proxy)),
        )
        service.startService()
        return service


class _Ear(SubscriberConnection):
    """A connection that hears of switches."""

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        super().__init__(lambda _: None)
        self._tell = heard

    def begin(self) -> None:
        """Subscribe."""
        self.listen(self)
        self.join([_SWITCH])

    def heard(self, channel: bytes, payload: bytes) -> None:  # noqa: ARG002
        """Pass on the news."""
        self._tell(payload)

    def joined(self, channel: bytes) -> None:
        """Do nothing."""

    def left(self, channel: bytes) -> None:
        """Do nothing."""

    def refused(self, channels: Sequence[bytes], words: str) -> None:  # noqa: ARG002
        """Try again with a new connection."""
        self.transport.loseConnection()


def _factory(build: Callable[[], Any]) -> Any:
    factory = Factory.forProtocol(build)
    factory.noisy = False
    return factory


def _reason(failure: Any) -> str:
    return failure.getErrorMessage() if not isinstance(failure.value, Error) else str(failure.value)
