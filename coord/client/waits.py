"""Waiters: the Deferreds that users wait on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError
from twisted.python.failure import Failure

from coord.core.names import MapNames, described, printable_field
from coord.core.records import FAILED, SILENT, Applied, StoredRecord
from coord.core.values import Json, decode
from coord.errors import CorruptRecord, EventFailed, TimedOut
from coord.link.one_shot import hush
from coord.session.answers import Answer, Pending
from coord.session.threads import ReactorThread

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["CallAnswer", "RecordWaiter", "Waiter", "all_of", "any_of", "expiring", "joint"]

T = TypeVar("T")

# Used by every wake-up; looking a method up on its class is slow in Python 3.11.
_call_back = Deferred.callback


class Waiter(Pending[Json]):
    """One wait for one key: a Deferred that only coord resolves.

    :param cancelled: called with the waiter when the user cancels it; one function for all waiters of a map.
    """

    def __init__(self, channel: bytes, cancelled: Callable[[Deferred[Any]], None]) -> None:
        super().__init__(cancelled)
        self.channel = channel

    def describe(self) -> str:
        """Return the map and key that it waits for."""
        return described(self.channel)

    def wake(self, stored: StoredRecord, names: MapNames) -> None:
        """Resolve with the value or failure of a record's latest wake."""
        try:
            # Decode anew for each waiter: no two may share a mutable value.
            value = decode(stored.data or b"")
        except ValueError as error:
            Deferred.errback(self, stored.corrupt_error(names.key_of(self.channel), error))
            return
        kind = stored.kind
        if kind is FAILED or (kind in SILENT and stored.wake_kind is FAILED):
            Deferred.errback(self, EventFailed(names.key_of(self.channel), value))
        else:
            _call_back(self, value)

    def give_up(self, error: Exception) -> None:
        """Resolve with an error, which is not logged if closing caused it."""
        if self.called:
            return
        Deferred.errback(self, error)
        hush(self)

    def callback(self, _: object) -> NoReturn:
        """Raise: a waiter is a view of the event, not the event."""
        raise TypeError(
            "a waiter is not the event: to fire it, call fire(key, value) on its map; to re-arm it, reset(key)"
        )

    def errback(self, _: object = None) -> NoReturn:
        """Raise: a waiter is a view of the event, not the event."""
        raise TypeError(
            "a waiter is not the event: to fail it, call fail(key, reason) on its map; to re-arm it, reset(key)"
        )


class RecordWaiter(Pending[Any]):
    """One wait for a condition, which the record meets that it is resolved with; ``what`` describes it.

    :param cancelled: called with the waiter when the user cancels it.
    """

    def __init__(self, channel: bytes, what: str, cancelled: Callable[[Deferred[Any]], None]) -> None:
        super().__init__(cancelled)
        self.channel = channel
        self.what = what

    def describe(self) -> str:
        """Return what it waits for, with the map and key."""
        return f"{self.what} of {described(self.channel)}"

    def wake(self, stored: StoredRecord | None, names: MapNames) -> None:
        """Resolve with the key's record; ``None`` if it has none."""
        try:
            self.callback(None if stored is None else stored.record(names.name, names.key_of(self.channel)))
        except CorruptRecord as error:
            self.errback(error)

    def give_up(self, error: Exception) -> None:
        """Resolve with an error, which is not logged if closing caused it."""
        if not self.called:
            self.errback(error)
            hush(self)


class CallAnswer(Pending[Applied]):
    """The answer to one call, which is its canceller."""

    def describe(self) -> str:
        """Return the call's key and kind."""
        call: Any = self._canceller
        return f"{printable_field(call.key)}, {call.kind}"


# Instances of a class share one table of attribute names. CPython freezes it after some instances, and an instance that
# gets a new attribute after that needs a dict of its own. That would hit every wait if many are made before the first
# wake-up, and every call if many are made before the first answer. Resolving one of each at import puts all the names
# into the tables.
_firsts: tuple[Deferred[Any], ...] = (Deferred(), Waiter(b"", lambda _: None), CallAnswer(lambda _: None))
for _first in _firsts:
    _call_back(_first.addCallback(lambda _: None), None)


def joint(what: str, waits: Coroutine[Any, Any, T], thread: ReactorThread) -> Deferred[T]:
    """Run `all_of` or `any_of`; like a single wait, it logs nothing at close."""
    inner = Deferred.fromCoroutine(waits)

    def cancelled(_: Deferred[T]) -> None:
        thread.check()
        inner.cancel()

    outer: Deferred[T] = Answer(what, cancelled)

    def resolve(result: T | Failure) -> None:
        if isinstance(result, Failure):
            outer.errback(result)
        else:
            outer.callback(result)
        hush(outer)

    inner.addBoth(resolve)
    return outer


def canceller(session: Session) -> Callable[[Deferred[Any]], None]:
    """Return the canceller of this session's waiters.

    It resolves the waiter itself. In the reactor's thread, where `addTimeout` calls it, it never raises (twisted#9534).
    """

    def cancelled(waiter: Deferred[Any]) -> None:
        assert isinstance(waiter, Waiter | RecordWaiter)
        session.thread.check()
        session.cancel(waiter.channel, waiter)
        Deferred[Any].errback(waiter, CancelledError())

    return cancelled


def expiring(
    waiting: Deferred[Any], timeout: float | None, clock: Any, what: str, why: Callable[[], str] = str
) -> Deferred[Any]:
    """Give a wait a deadline in seconds: its `TimedOut` names ``what``, and the reason if ``why`` returns one."""
    if timeout is None:
        return waiting

    def timed_out(result: object, _: float) -> object:
        if isinstance(result, Failure) and result.check(CancelledError):
            reason = why()
            raise TimedOut(f"{what}: not within {timeout:g} s" + (f" ({reason})" if reason else ""))
        return result

    return waiting.addTimeout(timeout, clock, onTimeoutCancel=timed_out)


async def all_of(waiters: dict[str, Deferred[Json]]) -> dict[str, Json]:
    """Return the value of each key; raise as soon as one fails. No waiter is left behind in any case."""
    try:
        results = await DeferredList(list(waiters.values()), fireOnOneErrback=True, consumeErrors=True)
        return {key: value for key, (_, value) in zip(waiters, results, strict=True)}
    except FirstError as first:
        raise _cause(first) from None
    finally:
        for waiter in waiters.values():
            waiter.cancel()


async def any_of(waiters: dict[str, Deferred[T]]) -> tuple[str, T]:
    """Return the key and value of the first waiter that resolves; raise if it failed."""
    keys = list(waiters)
    try:
        value, index = await DeferredList(
            list(waiters.values()),
            fireOnOneCallback=True,
            fireOnOneErrback=True,
            consumeErrors=True,
        )
        return keys[index], value
    except FirstError as first:
        raise _cause(first) from None
    finally:
        for waiter in waiters.values():
            waiter.cancel()


def _cause(first: FirstError) -> BaseException:
    error: BaseException | None = first.subFailure.value
    assert error is not None
    return error
