"""Sentinel: who is the primary of a service, and the news that it has changed.

Sentinels may disagree for a moment: one that was cut off still names the old primary. Every failover has a higher
configuration epoch (Redis' Sentinel documentation, "Configuration epochs"), so the answer with the highest one wins.
While a node is linked it listens to all sentinels, and leaves the old primary as soon as one of them tells of a
switch: a demoted primary goes on accepting writes for seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.errors import Error, ServerRefused
from coord.link.backoff import backoff
from coord.link.connections import Connection, SubscriberConnection
from coord.link.places import Found, tcp_endpoint
from coord.link.replies import LinkLost, NoServer, ServerError
from coord.link.tls import Tls

__all__ = ["Sentinels"]

_PATIENCE = 1.0
"""Seconds for which one sentinel is waited for when the others have answered or failed."""

_EAR_BEAT = 5.0
"""Seconds between two looks whether a sentinel that is listened to is still there."""

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
        # The configuration epoch of the last answer that was believed.
        self._epoch = 0

    # Asking.

    def locate(self, clock: Any) -> Deferred[Found]:
        """Ask all sentinels; the newest answer wins.

        Errbacks `ServerRefused` where those that answer do not know the service, `ServerError` where they turn us
        away, `NoServer` where none answers.
        """
        return Deferred.fromCoroutine(self._locate(clock))

    async def _locate(self, clock: Any) -> Found:
        asked = [Deferred.fromCoroutine(self._ask(clock, host, port)) for host, port in self._hosts]
        for answer in asked:
            answer.addTimeout(_PATIENCE, clock, onTimeoutCancel=_too_late)
        gathered: Any = DeferredList(asked, consumeErrors=True)
        results = await gathered
        answers = [answer for succeeded, answer in results if succeeded]
        failures = [failure for succeeded, failure in results if not succeeded]
        if any(failure.check(CancelledError) for failure in failures):
            # A list that is cancelled is called back, with whatever had been answered before.
            raise CancelledError
        known = [answer for answer in answers if answer is not None]
        if known:
            return self._newest(clock, known)
        if answers:
            raise ServerRefused(f"the sentinels know no service named {self._service!r}")
        said = "; ".join(dict.fromkeys(map(_words, failures)))
        if any(failure.check(ServerError) for failure in failures):
            raise ServerError(said)
        raise NoServer(f"no sentinel answers: {said}")

    def _newest(self, clock: Any, known: list[tuple[int, str, int]]) -> Found:
        epoch, host, port = max(known)
        if epoch < self._epoch and 2 * len(known) <= len(self._hosts):
            # Sentinels that were set up afresh begin at zero again; but a few may just have missed the last switch.
            raise NoServer(f"only sentinels that lag behind answer: configuration epoch {epoch}, not {self._epoch}")
        self._epoch = epoch
        return Found(tcp_endpoint(clock, host, port, self._tls), f"{host}:{port}")

    async def _ask(self, clock: Any, host: str, port: int) -> tuple[int, str, int] | None:
        """Return the epoch and address that one sentinel knows; ``None`` where it does not know the service."""
        lost: list[str] = []
        connection = Connection(lost.append)
        await tcp_endpoint(clock, host, port, self._tls).connect(_factory(connection))
        try:
            await self._log_in(connection)
            return await self._primary(connection)
        except ServerError as error:
            if "No such master" in str(error):
                return None
            raise
        except LinkLost:
            raise NoServer(lost[0] if lost else "the connection was lost") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise NoServer(f"{host}:{port} does not answer as a sentinel does") from None
        finally:
            connection.transport.abortConnection()

    async def _primary(self, connection: Connection) -> tuple[int, str, int]:
        service = self._service.encode()
        # While a failover ends, MASTER still names the old address beside the new epoch. Both questions travel
        # together, so that one moment answers them.
        state = connection.ask(b"SENTINEL", b"MASTER", service)
        address = connection.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service).addErrback(lambda _: None)
        said = await state
        # Without an address the tuple cannot be taken apart, as any other answer that is not a sentinel's.
        host, port = await address  # type: ignore[misc]
        epoch = dict(zip(said[::2], said[1::2], strict=True))[b"config-epoch"]
        return int(epoch), host.decode(), int(port)

    async def _log_in(self, connection: Connection) -> None:
        name, password = self._user
        if password is not None:
            await connection.ask(b"AUTH", *([name.encode()] if name else []), password.encode())

    # Listening.

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:
        """Listen to every sentinel; see `coord.link.places.Place`."""

        def heard(payload: bytes) -> None:
            match payload.decode(errors="replace").split(" "):
                case [self._service, _, _, host, port]:
                    moved(f"{host}:{port}")

        listening = [Deferred.fromCoroutine(self._listen(clock, host, port, heard)) for host, port in self._hosts]

        async def stop() -> None:
            gone: Any = DeferredList(listening, consumeErrors=True)
            for each in listening:
                each.cancel()
            await gone

        return lambda: Deferred.fromCoroutine(stop())

    async def _listen(self, clock: Any, host: str, port: int, heard: Callable[[bytes], None]) -> None:
        """Listen to one sentinel, for ever.

        No ``ClientService``: it cannot bear that a connection is lost while it is still being prepared.
        """
        pause = backoff()
        attempt = 0
        while True:
            ear = _Ear(heard, clock)
            try:
                await tcp_endpoint(clock, host, port, self._tls).connect(_factory(ear))
                logging_in = Deferred.fromCoroutine(self._log_in(ear))
                await logging_in.addTimeout(_PATIENCE, clock, onTimeoutCancel=_too_late)
                await ear.begin()
                attempt = 0
                await ear.wait_gone()
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it may be over at the next attempt
                self.log.debug("sentinel {host}:{port}: {error}", host=host, port=port, error=error)
            finally:
                await ear.hang_up()
            attempt += 1
            await deferLater(clock, pause(attempt))


class _Ear(SubscriberConnection):
    """A connection that hears of switches."""

    def __init__(self, heard: Callable[[bytes], None], clock: Any) -> None:
        super().__init__(lambda _: None)
        self._tell = heard
        self._clock = clock
        self._begun: Deferred[None] = Deferred()
        self._ended = False
        self._ending: list[Deferred[None]] = []
        self._seen = 0
        self._timer: Any = None

    def begin(self) -> Deferred[None]:
        """Subscribe; called back when that is confirmed."""
        self.listen(self)
        self.join([_SWITCH])
        self._beat()
        return self._begun

    def _beat(self) -> None:
        """Ask for a sign of life; an ear that nothing came to since the last time is deaf."""
        if self._timer is not None and self.received == self._seen:
            self.transport.abortConnection()
            return
        self._seen = self.received
        self.ping()
        self._timer = self._clock.callLater(_EAR_BEAT, self._beat)

    async def hang_up(self) -> None:
        """End it, if it ever began."""
        if self.transport is not None and not self._ended:
            self.transport.abortConnection()
            await self.wait_gone()

    def wait_gone(self) -> Deferred[None]:
        """Return a Deferred for its end."""
        gone: Deferred[None] = Deferred()
        self._ending.append(gone)
        if self._ended:
            gone.callback(None)
        return gone

    def connectionLost(self, why: Failure) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        super().connectionLost(why)
        if not self._begun.called:
            self._begun.errback(LinkLost())
            self._begun.addErrback(lambda _: None)
        self._ended = True
        for gone in self._ending:
            if not gone.called:
                gone.callback(None)

    def heard(self, channel: bytes, payload: bytes) -> None:  # noqa: ARG002
        """Pass on the news."""
        self._tell(payload)

    def joined(self, channel: bytes) -> None:  # noqa: ARG002
        """Say that nothing will be missed from here on."""
        if not self._begun.called:
            self._begun.callback(None)

    def left(self, channel: bytes) -> None:
        """Do nothing."""

    def refused(self, channels: Sequence[bytes], words: str) -> None:  # noqa: ARG002
        """Try again with a new connection."""
        self.transport.abortConnection()


def _factory(connection: Connection) -> Any:
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False
    return factory


def _too_late(result: Any, seconds: float) -> Any:
    if isinstance(result, Failure) and result.check(CancelledError):
        raise NoServer(f"nothing within {seconds:g} s")
    return result


def _words(failure: Failure) -> str:
    return str(failure.value) if isinstance(failure.value, (Error, NoServer)) else failure.getErrorMessage()
