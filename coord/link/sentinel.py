"""Sentinel: which server is the primary of a service, and notifications of a switch.

Sentinels may disagree for a moment: one that was cut off still names the old primary. Every failover has a higher
configuration epoch (Redis' Sentinel documentation, "Configuration epochs"), so the answer with the highest one wins.
While a node is connected it subscribes to all sentinels, and leaves the old primary as soon as one of them announces a
switch: a demoted primary goes on accepting writes for seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from coord.errors import Error, ServerRefused
from coord.link.discovery import Resolved, tcp_endpoint
from coord.link.handshake import mode_of
from coord.link.passwords import Password, current
from coord.link.protocol import Connection, connect_to
from coord.link.replication import fields_of
from coord.link.replies import LinkLost, NoServer, ServerError
from coord.link.sentinel_subscriber import TIMEOUT, follow, too_late
from coord.link.tls import Tls

__all__ = ["Sentinels"]

_GRACE = 0.1
"""Seconds to wait for further answers once most sentinels have answered."""


class Sentinels:
    """Resolves the primary of a service by asking a group of sentinels; a `Resolver`.

    :param hosts: (host, port) of each sentinel.
    :param user: our name and password for the sentinels, or ``None`` each.
    """

    def __init__(
        self, hosts: Sequence[tuple[str, int]], service: str, user: tuple[str | None, Password | None], tls: Tls | None
    ) -> None:
        self._hosts = hosts
        self._service = service
        self._user = user
        self._tls = tls
        # The configuration epoch of the last answer used.
        self._epoch = 0

    # Asking.

    def resolve(self, clock: Any) -> Deferred[Resolved]:
        """Ask all sentinels; the newest answer wins.

        Errbacks `ServerRefused` if the service is unknown to all that answer, `ServerError` if they refuse us, and
        `NoServer` if none answers; and what the password's function raises.
        """
        return Deferred.fromCoroutine(self._resolve(clock))

    async def _resolve(self, clock: Any) -> Resolved:
        # Once, before any sentinel is asked: if the password cannot be read, no sentinel is to blame.
        credentials = self._credentials()
        asked = [Deferred.fromCoroutine(self._ask(clock, host, port, credentials)) for host, port in self._hosts]
        early_end = _EarlyEnd(clock, asked)
        for answer in asked:
            answer.addTimeout(TIMEOUT, clock, onTimeoutCancel=too_late)
            answer.addCallback(early_end.answered)
        gathered: Any = DeferredList(asked, consumeErrors=True)
        results = await gathered
        early_end.end()
        answers = [answer for succeeded, answer in results if succeeded]
        failures = [failure for succeeded, failure in results if not succeeded]
        if not early_end.over and any(failure.check(CancelledError) for failure in failures):
            # A cancelled DeferredList calls back with the answers so far.
            raise CancelledError
        known = [answer for answer in answers if answer is not None]
        if known:
            return self._newest(clock, known)
        if answers:
            raise ServerRefused(f"the sentinels know no service named {self._service!r}")
        said = "; ".join(dict.fromkeys(map(_message, failures)))
        if all(failure.check(ServerRefused) for failure in failures):
            raise ServerRefused(said)
        if any(failure.check(ServerError) for failure in failures):
            raise ServerError(said)
        raise NoServer(f"no sentinel answers: {said}")

    def _newest(self, clock: Any, known: list[tuple[int, str, int]]) -> Resolved:
        epoch, host, port = max(known)
        if epoch < self._epoch and 2 * len(known) <= len(self._hosts):
            # New sentinels begin at zero again; but a minority may just have missed the last switch.
            raise NoServer(f"only sentinels that lag behind answer: configuration epoch {epoch}, not {self._epoch}")
        self._epoch = epoch
        return Resolved(tcp_endpoint(clock, host, port, self._tls), f"{host}:{port}")

    async def _ask(self, clock: Any, host: str, port: int, credentials: list[bytes]) -> tuple[int, str, int] | None:
        """Ask one sentinel for epoch, host and port of the primary; ``None`` if it does not know the service."""
        lost: list[str] = []
        connection = Connection(lost.append)
        await connect_to(tcp_endpoint(clock, host, port, self._tls), connection)
        try:
            await self._log_in(connection, credentials)
            return await self._primary(connection)
        except ServerError as error:
            if "No such master" in str(error):
                return None
            if "unknown command" in str(error).lower():
                raise ServerRefused(await self._not_a_sentinel(connection, f"{host}:{port}")) from None
            raise
        except LinkLost:
            raise NoServer(lost[0] if lost else "the connection was lost") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise NoServer(f"{host}:{port} does not answer as a sentinel does") from None
        finally:
            connection.abort()

    async def _not_a_sentinel(self, connection: Connection, address: str) -> str:
        """Describe what answers instead of a sentinel."""
        info = await connection.ask(b"INFO", b"server").addErrback(lambda _: b"")
        scheme = "redis" if self._tls is None else "rediss"
        if mode_of(fields_of(info)) == b"cluster":
            return (
                f"{address} is no sentinel but a cluster's node; the URL of the cluster is {scheme}+cluster://{address}"
            )
        return f"{address} is no sentinel; if it is the server itself, the URL is {scheme}://{address}"

    async def _primary(self, connection: Connection) -> tuple[int, str, int]:
        service = self._service.encode()
        # At the end of a failover, MASTER still has the old address with the new epoch. So the address is asked for
        # separately; both commands are sent together, and answered as of one moment.
        state = connection.ask(b"SENTINEL", b"MASTER", service)
        address = connection.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service).addErrback(lambda _: None)
        said = await state
        # If there is no address, unpacking fails, as for any other answer that is not a sentinel's.
        host, port = await address  # type: ignore[misc]
        epoch = dict(zip(said[::2], said[1::2], strict=True))[b"config-epoch"]
        return int(epoch), host.decode(), int(port)

    async def _log_in(self, connection: Connection, credentials: list[bytes] | None = None) -> None:
        words = self._credentials() if credentials is None else credentials
        if words:
            await connection.ask(b"AUTH", *words)

    def _credentials(self) -> list[bytes]:
        """Return the arguments of AUTH; none without a password."""
        name, password = self._user[0], current(self._user[1])
        return [] if password is None else [*([name.encode()] if name else []), password.encode()]

    # Watching.

    def watch(self, clock: Any, moved: Callable[[str], None]) -> Callable[[], Deferred[None]]:
        """Subscribe to all sentinels; see `coord.link.discovery.Resolver`."""

        def switched(payload: bytes) -> None:
            match payload.decode(errors="replace").split(" "):
                case [self._service, _, _, host, port]:
                    moved(f"{host}:{port}")

        following = [
            follow(tcp_endpoint(clock, host, port, self._tls), self._log_in, switched, clock)
            for host, port in self._hosts
        ]

        async def stop() -> None:
            gone: Any = DeferredList([each.stop() for each in following], consumeErrors=True)
            await gone

        return lambda: Deferred.fromCoroutine(stop())


class _EarlyEnd:
    """Cancels open requests soon after most are answered: an unreachable host does not even refuse."""

    def __init__(self, clock: Any, asked: Sequence[Deferred[Any]]) -> None:
        self.over = False
        self._clock = clock
        self._asked = asked
        self._answers = 0
        self._timer: Any = None

    def answered(self, answer: Any) -> Any:
        """Count an answer, and return it."""
        self._answers += 1
        if self._timer is None and 2 * self._answers > len(self._asked):
            self._timer = self._clock.callLater(_GRACE, self._end_others)
        return answer

    def _end_others(self) -> None:
        self.over = True
        for each in self._asked:
            each.cancel()

    def end(self) -> None:
        """Cancel the timer."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _message(failure: Failure) -> str:
    return str(failure.value) if isinstance(failure.value, (Error, NoServer)) else failure.getErrorMessage()
