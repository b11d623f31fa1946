"""Holds, locks and barriers for threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Self

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.blocking.bridge import Bridge
from coord.client import barriers, holds, locks
from coord.core.records import Applied, Record
from coord.errors import Closed, Error, HoldLost

__all__ = ["Barrier", "Hold", "Lock"]


class Block:
    """What a block of ``with`` owns: given back at its end. Nothing can interrupt the block if it is lost meanwhile.

    So look at ``valid``, or call ``check``. A block that ends well raises `HoldLost` then.
    """

    def __init__(self, bridge: Bridge, owned: holds.Hold | locks.Lock) -> None:
        # In the reactor's thread.
        self._bridge = bridge
        self._owned = owned
        self._error: HoldLost | None = None
        owned.lost().addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if isinstance(failure.value, HoldLost):
            self._error = failure.value

    def __repr__(self) -> str:
        return repr(self._owned)

    @property
    def key(self) -> str:
        """The key."""
        return self._owned.key

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._owned.node

    @property
    def valid(self) -> bool:
        """Whether it is certainly this node's now; false in a forked child, which owns nothing."""
        return self._bridge.is_here and self._owned.valid

    def check(self) -> None:
        """Raise `HoldLost` if it is lost."""
        if self._error is not None:
            raise self._error

    def lost(self) -> Future[None]:
        """Return a future that fails with `HoldLost` when it is lost, and with `Closed` at its own end."""
        return self._bridge.begin(self._owned.lost)

    def _end(self) -> Deferred[Applied | None]:
        raise NotImplementedError

    def _check_end(self) -> None:
        """Raise `HoldLost` if it is lost at the end of a block."""
        self.check()

    def _give_up(self) -> None:
        """End it in the reactor's thread, without waiting. Errors are dropped: it ends with its lease."""
        self._end().addErrback(lambda _: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._check_end()
        except HoldLost as lost:
            # The server may be out of reach.
            with suppress(Closed):
                self._bridge.submit(self._give_up)
            if error is None:
                raise
            error.add_note(f"meanwhile: {type(lost).__name__}: {lost}")
            return
        try:
            self._bridge.ask(self._end)
        except Error:
            # It is over; an error of the block matters more.
            if error is None:
                raise


class Hold(Block):
    """A key that this node holds, until `withdraw`, or until the end of a block; see ``coord.Hold``.

    It is lost if somebody else ends it (``reset`` with ``evict=True``).
    """

    _owned: holds.Hold

    @property
    def first(self) -> bool:
        """Whether this hold latched the key."""
        return self._owned.first

    @property
    def record(self) -> Record | None:
        """The record of the key when the hold was made."""
        return self._owned.record

    def withdraw(self, timeout: float | None = None) -> Applied | None:
        """End this hold; return ``None`` if it was over already."""
        return self._bridge.ask(lambda: self._owned.withdraw(timeout))

    def _end(self) -> Deferred[Applied | None]:
        return self._owned.withdraw()


class Lock(Block):
    """A lock that this node owns, until `release`, or until the end of a block; see ``coord.Lock``."""

    _owned: locks.Lock

    @property
    def token(self) -> str:
        """The fencing token of the grant: text that is higher than all earlier tokens of the map."""
        return self._owned.token

    @property
    def record(self) -> Record:
        """The record of the grant."""
        return self._owned.record

    @property
    def deadline(self) -> float:
        """Until when it is `valid` without a further renewal, in seconds of the coordinator's clock."""
        return self._owned.deadline

    def on_renewed(self, callback: Callable[[float], object]) -> None:
        """Call ``callback`` in the reactor's thread, with the new `deadline`, whenever that moves."""
        context = copy_context()
        self._bridge.call(lambda: self._owned.on_renewed(lambda deadline: context.run(callback, deadline)))

    def check(self) -> None:
        """Raise `HoldLost` unless the lock is `valid`."""
        self._bridge.check_process()
        self._owned.check()

    def release(self, timeout: float | None = None) -> Applied | None:
        """Give the lock to the next in the queue; return ``None`` if it was released already."""
        return self._bridge.ask(lambda: self._owned.release(timeout))

    def _end(self) -> Deferred[Applied | None]:
        return self._owned.release()

    def _check_end(self) -> None:
        if not self.valid:
            raise HoldLost(f"{self.key}: the lock was lost before the block ended")


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
