"""Holding a key in a thread."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Self

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.blocking.bridge import Bridge
from coord.client import barriers, holds
from coord.core.records import Applied, Record
from coord.errors import Error, HoldLost

__all__ = ["Barrier", "Hold"]


class Hold:
    """A key that this node holds, until `withdraw`; as a context manager, until its block ends.

    Nothing can interrupt the block if somebody else ends the hold: look at ``valid``, or call `check`. The block then
    raises `HoldLost` at its end. See ``coord.Hold``.
    """

    def __init__(self, bridge: Bridge, hold: holds.Hold) -> None:
        # In the reactor's thread.
        self._bridge = bridge
        self._hold = hold
        self._error: HoldLost | None = None
        hold.lost().addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if isinstance(failure.value, HoldLost):
            self._error = failure.value

    def _give_up(self) -> None:
        """End it in the reactor's thread, without waiting: nobody has got it."""
        self._hold.withdraw().addErrback(lambda _: None)

    def __repr__(self) -> str:
        return repr(self._hold)

    @property
    def key(self) -> str:
        """The key."""
        return self._hold.key

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._hold.node

    @property
    def first(self) -> bool:
        """Whether this hold latched the key."""
        return self._hold.first

    @property
    def record(self) -> Record | None:
        """The record of the key when the hold was made."""
        return self._hold.record

    @property
    def valid(self) -> bool:
        """Whether the server certainly counts this hold now; false in a forked child, which holds nothing."""
        return self._bridge.is_here and self._hold.valid

    def check(self) -> None:
        """Raise `HoldLost` if somebody else has ended this hold."""
        if self._error is not None:
            raise self._error

    def lost(self) -> Future[None]:
        """Return a future that fails with `HoldLost` when somebody else ends this hold; `Closed` at its own end."""
        return self._bridge.begin(self._hold.lost)

    def withdraw(self, timeout: float | None = None) -> Applied | None:
        """End this hold; return ``None`` if it was over already."""
        return self._bridge.ask(lambda: self._hold.withdraw(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.withdraw()
            self.check()
            return
        # It is over; an error of the block matters more.
        with suppress(Error):
            self.withdraw()
        if self._error is not None:
            error.add_note(f"meanwhile: {type(self._error).__name__}: {self._error}")


class Barrier:
    """What ``barrier`` returns: enter it with ``with``; the block runs once enough have entered."""

    def __init__(self, bridge: Bridge, barrier: barriers.Barrier) -> None:
        self._bridge = bridge
        self._barrier = barrier

    def __enter__(self) -> Hold:
        self._hold = self._bridge.ask(self._enter, Hold._give_up)
        return self._hold

    def _enter(self) -> Deferred[Hold]:
        entering = Deferred.fromCoroutine(self._barrier.__aenter__())
        return entering.addCallback(lambda hold: Hold(self._bridge, hold))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hold.__exit__(kind, error, trace)
