"""Holds in the map what is mounted, and lets go of what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord import (
    AccessDenied,
    Closed,
    CorruptRecord,
    Error,
    EventMap,
    Hold,
    HoldLost,
    InvalidInput,
    InvalidTime,
    InvalidValue,
)
from coord.core.quoting import quoted
from coord.mounts.announcements import Announcements, Value, plan

__all__ = ["Announcer"]

# Seconds before a retry: the first, and the most, as they double.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

T = TypeVar("T")


class _Held(NamedTuple):
    value: Value
    hold: Hold


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why a call failed.

    :param line: what is logged.
    :param blocks: the map takes no call now, so nothing is up to date.
    :param passes: another try may succeed.
    """

    line: str
    blocks: bool = False
    passes: bool = True


class Announcer:
    """Holds the keys that it is told to `announce`; the session keeps them held through losses of the link.

    At most one round of calls runs. Changes during a round are acted on at its end, and failed calls are made again
    after a pause.

    :param up_to_date: called after each round that leaves only keys that cannot be held because of what they are.
    :param failed: called with an unexpected error, with `Closed`, and with `AccessDenied` before the first success.
    """

    _log = Logger()

    def __init__(
        self, events: EventMap, reactor: Any, up_to_date: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self._events = events
        self._reactor = reactor
        self._up_to_date = up_to_date
        self._failed = failed
        self._wanted: Announcements = {}
        self._held: dict[str, _Held] = {}
        self._round: Deferred[Any] | None = None
        self._retry: Any = None
        self._pause = _FIRST_PAUSE
        self._said: set[str] = set()
        self._accepted = self._stopped = False

    def announce(self, wanted: Announcements) -> None:
        """Hold these keys with these values from now on, and no others."""
        self._wanted = wanted
        self._act()

    def stop(self) -> None:
        """Give up the calls under way, and make no more. What is held stays so until the coordinator is closed."""
        if not self._stopped:
            self._end()
            if self._round is not None:
                self._round.cancel()

    def withdraw(self) -> Deferred[None]:
        """Finish the calls under way, then withdraw all that is held; the Deferred errbacks if that is in doubt."""
        self._end()
        return Deferred.fromCoroutine(self._withdraw_all(self._round))

    def _end(self) -> None:
        self._stopped = True
        self._cancel_retry()

    async def _withdraw_all(self, calls: Deferred[Any] | None) -> None:
        if calls is not None:
            await calls
        over, _ = self._plan({})
        await _together(self._held.pop(key).hold.withdraw() for key in over)

    # Rounds.

    def _act(self) -> None:
        self._cancel_retry()
        if self._round is None and not self._stopped:
            self._round = Deferred.fromCoroutine(self._reconcile())
            self._round.addCallbacks(self._finished, self._broken)

    async def _reconcile(self) -> list[_Problem]:
        problems: list[_Problem] = []
        tried: Announcements | None = None
        while tried is not self._wanted and not self._stopped:
            tried = self._wanted
            problems = await self._make_calls(tried)
        return problems

    async def _make_calls(self, wanted: Announcements) -> list[_Problem]:
        over, new = self._plan(wanted)
        calls = [self._withdraw(key, self._held.pop(key)) for key in over]
        calls += [self._hold(key, wanted[key]) for key in new]
        problems = await _together(map(Deferred.fromCoroutine, calls))
        return [problem for problem in problems if problem is not None]

    def _plan(self, wanted: Announcements) -> tuple[list[str], list[str]]:
        return plan(wanted, {key: held.value for key, held in self._held.items()})

    def _finished(self, problems: list[_Problem]) -> None:
        self._round = None
        if self._stopped:
            return
        self._say(problems)
        if any(problem.passes for problem in problems):
            self._retry = self._reactor.callLater(self._pause, self._act)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._pause = _FIRST_PAUSE
        if not any(problem.blocks for problem in problems):
            self._accepted = True
            self._up_to_date()

    def _broken(self, failure: Failure) -> None:
        self._round = None
        if not self._stopped and isinstance(failure.value, Exception):
            self._failed(failure.value)

    def _cancel_retry(self) -> None:
        retry, self._retry = self._retry, None
        if retry is not None and retry.active():
            retry.cancel()

    def _say(self, problems: list[_Problem]) -> None:
        """Log what was not so before."""
        # If the map takes no calls, all fail alike.
        lines = [problem.line for problem in problems if problem.blocks][:1]
        lines += [problem.line for problem in problems if not problem.blocks]
        for line in dict.fromkeys(lines):
            if line not in self._said:
                self._log.warn("{line}", line=line)
        self._said = set(lines)

    # Calls.

    async def _hold(self, key: str, value: Value) -> _Problem | None:
        try:
            hold = await self._events.hold(key, value)
        except Error as error:
            return self._not_held(key, error)
        former = self._held.get(key)
        self._held[key] = _Held(value, hold)
        hold.lost().addErrback(self._lost, key, hold)
        if former is not None:
            # Only now, so that the key passes and has no end.
            self._log.info("{key} changed", key=quoted(key))
            return await self._withdraw(key, former, said=False)
        behind = "" if hold.first or hold.record is None else f", behind {hold.record.node}"
        self._log.info("{key} announced{behind}", key=quoted(key), behind=behind)
        return None

    def _lost(self, failure: Failure, key: str, hold: Hold) -> None:
        """Hold a key again whose holders were evicted: it is mounted still."""
        held = self._held.get(key)
        if failure.check(HoldLost) and held is not None and held.hold is hold:
            del self._held[key]
            self._log.warn("{key} was ended by an eviction; announcing it again", key=quoted(key))
            # Another object, so that a round that is under way is not the last.
            self._wanted = {**self._wanted}
            self._act()

    def _not_held(self, key: str, error: Error) -> _Problem:
        if isinstance(error, Closed) or (isinstance(error, AccessDenied) and not self._accepted):
            raise error
        if isinstance(error, InvalidInput | CorruptRecord) and not isinstance(error, InvalidTime):
            line = f"{quoted(key)} is not announced: {error}"
            return _Problem(line, passes=not isinstance(error, InvalidValue))
        return _Problem(f"mounts are not announced: {error}; trying again", blocks=True)

    async def _withdraw(self, key: str, held: _Held, *, said: bool = True) -> _Problem | None:
        try:
            await held.hold.withdraw()
        except Closed:
            raise
        except Error as error:
            # It is over all the same: the session makes the call as soon as it can.
            return _Problem(f"unmounts are announced later, when the lease ends at the latest: {error}", passes=False)
        if said:
            self._log.info("{key} withdrawn", key=quoted(key))
        return None


async def _together(calls: Iterable[Deferred[T]]) -> list[T]:
    """Wait for all calls, which were made in one turn and so are sent together; raise the first error."""
    try:
        return await gatherResults(list(calls), consumeErrors=True)
    except FirstError as first:
        error = first.subFailure.value
        assert error is not None
        raise error from None
