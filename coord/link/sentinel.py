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
from twisted.python.failure import Failure

from coord.errors import Error, ServerRefused
from coord.link.discovery import Resolved, tcp_endpoint
from coord.link.protocol import Connection, factory_of
from coord.link.replies import LinkLost, NoServer, ServerError
from coord.link.sentinel_subscriber import PATIENCE, listen, too_late
from coord.link.tls import Tls

__all__ = ["Sentinels"]

_GRACE = 0.1
"""Seconds for which the last sentinels are waited for when most have answered."""


class Sentinels:
    """A service's primary, as a group of sentinels knows it; a `Resolver`.

    :param hosts: (host, port) of each sentinel.
    :param user: who we are to the sentinels: a name or ``None``, and a password or ``None``.
    """

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

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Ask all sentinels; the newest answer wins.

        Errbacks `ServerRefused` where those that answer do not know the service, `ServerError` where they turn us
        away, `NoServer` where none answers.
        """
        return Deferred.fromCoroutine(self._resolve(clock))

    async def _resolve(self, clock: Any) -> Resolved:
        asked = [Deferred.fromCoroutine(self._ask(clock, host, port)) for host, port in self._hosts]
        hurry = _Hurry(clock, asked)
        for answer in asked:
            answer.addTimeout(PATIENCE, clock, onTimeoutCancel=too_late)
            answer.addCallback(hurry.answered)
        gathered: Any = DeferredList(asked, consumeErrors=True)
        results = await gathered
        hurry.end()
        answers = [answer for succeeded, answer in results if succeeded]
        failures = [failure for succeeded, failure in results if not succeeded]
        if not hurry.over and any(failure.check(CancelledError) for failure in failures):
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

    def _newest(self, clock: Any, known: list[tuple[int, str, int]]) -> Resolved:
        epoch, host, port = max(known)
        if epoch < self._epoch and 2 * len(known) <= len(self._hosts):
            # Sentinels that were set up afresh begin at zero again; but a few may just have missed the last switch.
            raise NoServer(f"only sentinels that lag behind answer: configuration epoch {epoch}, not {self._epoch}")
        self._epoch = epoch
        return Resolved(tcp_endpoint(clock, host, port, self._tls), f"{host}:{port}")

    async def _ask(self, clock: Any, host: str, port: int) -> tuple[int, str, int] | None:
        """Return the epoch and address that one sentinel knows; ``None`` where it does not know the service."""
        lost: list[str] = []
        connection = Connection(lost.append)
        await tcp_endpoint(clock, host, port, self._tls).connect(factory_of(connection))
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
            connection.abort()

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
        """Listen to every sentinel; see `coord.link.discovery.Resolver`."""

        def heard(payload: bytes) -> None:
            match payload.decode(errors="replace").split(" "):
                case [self._service, _, _, host, port]:
                    moved(f"{host}:{port}")

        listening = [
            Deferred.fromCoroutine(listen(tcp_endpoint(clock, host, port, self._tls), self._log_in, heard, clock))
            for host, port in self._hosts
        ]

        async def stop() -> None:
            gone: Any = DeferredList(listening, consumeErrors=True)
            for each in listening:
                each.cancel()
            await gone

        return lambda: Deferred.fromCoroutine(stop())


class _Hurry:
    """Ends the questions that are open some time after most are answered: a host that is gone does not even refuse."""

    def __init__(self, clock: Any, asked: Sequence[Deferred[Any]]) -> None:
        self.over = False
        self._clock = clock
        self._asked = asked
        self._answers = 0
        self._timer: Any = None

    def answered(self, answer: Any) -> Any:
        """Count an answer, and pass it on."""
        self._answers += 1
        if self._timer is None and 2 * self._answers > len(self._asked):
            self._timer = self._clock.callLater(_GRACE, self._end_others)
        return answer

    def _end_others(self) -> None:
        self.over = True
        for each in self._asked:
            each.cancel()

    def end(self) -> None:
        """Wait no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _words(failure: Failure) -> str:
    return str(failure.value) if isinstance(failure.value, (Error, NoServer)) else failure.getErrorMessage()
