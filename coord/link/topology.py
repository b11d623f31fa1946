"""Who serves which slot: asked of the cluster's servers, one at a time, and seldom.

When a shard fails, thousands of nodes want to know at once. So each asks at most once a second, at a random moment, and
a random server. What MOVED says costs no question.
"""

from __future__ import annotations

from collections.abc import Callable
from random import shuffle, uniform
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.core.slots import Address, Atlas, parse_slots
from coord.errors import AccessDenied, Error, ServerRefused
from coord.link.discovery import server_at
from coord.link.replies import LinkLost, NoServer, ServerError, describe, explain
from coord.link.target import ClusterTarget, Target

__all__ = ["Topology"]

_INTERVAL: Final = 1.0
"""Seconds between two questions, at least; up to half of it more is added at random."""

_SLOWEST: Final = 5.0


class Topology:
    """Keeps an `Atlas` up to date.

    ``attempts`` counts the servers that were asked. ``trouble`` is why the last question had no answer.

    :param changed: called after each answer.
    :param failed: called with the reason if no server answers, and with the error if access is denied.
    :param patience: seconds in which one server has to answer.
    """

    log = Logger()

    def __init__(
        self,
        target: Target,
        cluster: ClusterTarget,
        clock: Any,
        changed: Callable[[], None],
        failed: Callable[[str, AccessDenied | ServerRefused | None], None],
        patience: float,
    ) -> None:
        self.atlas = Atlas()
        self.trouble = ""
        self.attempts = 0
        self._target = target
        self._cluster = cluster
        self._clock = clock
        self._changed = changed
        self._failed = failed
        self._patience = patience
        self._asking: Deferred[None] | None = None
        self._timer: Any = None
        self._next = 0.0
        self._failures = 0
        self._over = False

    def refresh(self) -> None:
        """Ask soon."""
        if not self._over and self._asking is None and self._timer is None:
            due: float = max(0.0, self._next - self._clock.seconds())
            self._timer = self._clock.callLater(due, self._begin)

    def forked(self) -> None:
        """Ask nothing in the child of a fork; `close` follows."""
        self._over = True

    def close(self) -> None:
        """Ask no more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()

    def remapped(self, address: Address) -> Address:
        """Return the address at which a server is reached: as announced, if the user's function fails."""
        try:
            return self._cluster.remap(address)
        except Exception:  # noqa: BLE001 - what it raises now, it raises again when the slots are asked for
            self.log.failure("remap failed for {address}", address=address)
            return address

    def _begin(self) -> None:
        self._timer = None
        if self._over:
            return
        self._next = self._clock.seconds() + uniform(_INTERVAL, 1.5 * _INTERVAL)  # noqa: S311 - nothing to guess
        # Made first: the question may be answered at once.
        asking = self._asking = Deferred.fromCoroutine(self._ask_all())
        asking.addBoth(self._asked)

    def _asked(self, result: Any) -> None:
        self._asking = None
        if self._over:
            return
        if result is None:
            self._failures = 0
            self.trouble = ""
            self._changed()
            return
        error = result.value
        self._failures += 1
        self._next = self._clock.seconds() + min(_SLOWEST, _INTERVAL * self._failures) * uniform(0.5, 1.0)  # noqa: S311
        denied = error if isinstance(error, AccessDenied | ServerRefused) else None
        self.trouble = str(error)
        self._failed(self.trouble, denied)
        self.refresh()

    async def _ask_all(self) -> None:
        nodes = list(dict.fromkeys((*self.atlas.nodes, *self._cluster.seeds)))
        shuffle(nodes)
        reasons: dict[str, None] = {}
        refused: Error | None = None
        for node in nodes:
            try:
                served = await self._ask_in_time(node)
            except (AccessDenied, ServerRefused) as error:
                refused = error
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
                reasons[str(error) or type(error).__name__] = None
            else:
                if served:
                    self.atlas.answered(served)
                    return
                reasons[f"{node} knows no server with a slot"] = None
        if refused is not None:
            raise refused
        raise NoServer(f"no server of the cluster answers: {'; '.join(reasons)}")

    def _ask_in_time(self, node: Address) -> Deferred[list[Any]]:
        def too_late(result: Any, _: float) -> Any:
            if isinstance(result, Failure) and result.check(CancelledError):
                raise NoServer(f"{node} does not answer")
            return result

        asked = Deferred.fromCoroutine(self._ask(node))
        return asked.addTimeout(self._patience, self._clock, onTimeoutCancel=too_late)

    async def _ask(self, node: Address) -> list[Any]:
        # Imported late: they import txredisapi and OpenSSL.
        from coord.link.handshake import log_in
        from coord.link.protocol import Connection, connect_to

        self.attempts += 1
        lost: list[str] = []
        connection = Connection(lost.append)
        shown = f"{self._cluster.scheme}://{node}"
        found = await server_at(node.host, node.port, shown, self._cluster.tls).resolve(self._clock)
        target = self._target.at(found, shown)
        try:
            await connect_to(found.endpoint, connection)
            await log_in(connection, target)
            reply = await connection.ask(b"CLUSTER", b"SLOTS")
        except ServerError as error:
            known = explain(str(error), target.shown)
            raise known if isinstance(known, AccessDenied) else NoServer(f"{node}: {describe(str(error))}") from None
        except LinkLost:
            raise NoServer(f"{node}: {lost[0] if lost else 'the connection was lost'}") from None
        finally:
            connection.abort()
        try:
            return parse_slots(reply, node, self._cluster.remap)
        except ValueError as error:
            raise NoServer(f"{node}: {error}") from None
