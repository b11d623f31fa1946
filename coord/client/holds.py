"""Holding a key: what users call ``await on_mount.hold("abc")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred

from coord.core.names import check_name
from coord.core.records import Applied, Record
from coord.core.values import Json, decode
from coord.errors import Error
from coord.link.one_shot import hush
from coord.session.answers import Pending
from coord.session.settings import MAX_DEADLINE, check_seconds

if TYPE_CHECKING:
    from coord.session.holding import Holding
    from coord.session.session import Session

__all__ = ["Hold", "HoldAnswer", "Holder", "need_of", "parse_holders"]


@dataclass(frozen=True, slots=True)
class Holder:
    """One holder of a key: its ``node``, its ``value``, and since when it holds the key, in seconds since 1970."""

    node: str
    value: Json
    time: float


def parse_holders(reply: list[Any]) -> tuple[int, list[Holder]]:
    """Return the number of holders and the holders in the answer of ``holders.lua``; skip what is none."""
    number, *fields = reply
    holders = []
    for field in fields:
        match = _FIELD.fullmatch(field)
        with suppress(ValueError):
            if match is not None:
                holders.append(Holder(check_name("node", match[3].decode()), decode(match[4]), int(match[1]) / 1e6))
    return number, holders


def need_of(reply: list[Any]) -> int:
    """Return how many must hold the key, from the answer of ``holders.lua``; 0 for a lock, or without a holder."""
    found = [match for field in reply[1:] if (match := _FIELD.fullmatch(field))]
    return int(found[0][2]) if found else 0


# The time of joining is the holder's place in the order: two that joined in one moment are a microsecond apart.
_FIELD = re.compile(rb"(\d{1,16}) \S+ (\d{1,7}) ([\w.-]+) [^\n]+\n(.+)", re.DOTALL)


class Hold:
    """A key that this node holds, until `withdraw`; as an asynchronous context manager, until its block ends.

    ``key`` names it, ``node`` this node. ``first`` says whether this hold latched the key, and ``record`` is the key's
    record after it was made: another holder's if that came first, ``None`` if more holders are needed. If the server
    cannot be reached for long, the event may end for the others; it is held again as soon as the server is reached.
    """

    def __init__(self, session: Session, holding: Holding, key: str, applied: Applied) -> None:
        self.key = key
        self.node = session.node.name
        self.first = applied.first
        self._applied = applied
        self._session = session
        self._holding = holding

    def __repr__(self) -> str:
        return f"<Hold of {self._holding.map_state.names.name}/{self.key}{'' if self.valid else ', not valid'}>"

    @property
    def record(self) -> Record | None:
        """The record of the key when the hold was made."""
        return self._applied.record

    @property
    def valid(self) -> bool:
        """Whether the server certainly counts this hold now.

        That is so until the lease time after the last renewal that the server has answered, counted from when it was
        sent. Asking compares clocks, so it is right though no timer ran meanwhile.
        """
        return self._holding.valid

    def lost(self) -> Deferred[None]:
        """Return a Deferred that errbacks `HoldLost` when somebody else ends this hold (``reset`` with ``evict=True``).

        It errbacks `Closed` when the hold is withdrawn, or the coordinator is closed; it is never called back.
        """
        self._session.thread.check()
        return self._holding.lost.wait()

    def withdraw(self, timeout: float | None = None) -> Deferred[Applied | None]:
        """End this hold; the Deferred is called back once the server has applied that.

        The key passes to the next holder, or becomes pending (`Kind` ``withdrawn``). It errbacks as a call does, and
        then the hold is over all the same: it is withdrawn as soon as the server is reached, or ends with its lease. It
        is called back with ``None`` if the hold was over already.

        :raises InvalidTime: ``timeout`` is no deadline of a call; it is held still.
        """
        self._session.thread.check()
        default = self._session.node.settings.timeout
        seconds = default if timeout is None else check_seconds("timeout", timeout, most=MAX_DEADLINE)
        return self._session.holds.withdraw(self._holding, seconds)

    async def __aenter__(self) -> Hold:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.withdraw()
        except Error:
            # It is over; an error of the block matters more.
            if error is None:
                raise


class HoldAnswer(Pending[Hold]):
    """The answer to ``hold``: await it, or enter it with ``async with``."""

    def __init__(self, session: Session, key: str, start: Callable[[Deferred[Applied]], Holding]) -> None:
        super().__init__(self._cancelled)
        self._session = session
        self._key = key
        applied: Deferred[Applied] = Deferred()
        self._holding = start(applied)
        applied.addCallbacks(self._held, self._not_held)

    def describe(self) -> str:
        """Return what is held."""
        return f"the hold of {self._holding.map_state.names.name}/{self._key}"

    def _held(self, applied: Applied) -> None:
        if not self.called:
            self.callback(Hold(self._session, self._holding, self._key, applied))

    def _not_held(self, failure: Any) -> None:
        if not self.called:
            self.errback(failure)
            hush(self)

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._session.thread.check()
        self._session.holds.give_up(self._holding)
        self.errback(CancelledError())

    async def __aenter__(self) -> Hold:
        self._entered = await self
        return self._entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.__aexit__(kind, error, trace)
