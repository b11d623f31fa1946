"""Barriers: none of the parties passes before all have arrived."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coord.client.holds import Hold, HoldAnswer
from coord.core.values import Json
from coord.errors import Error

__all__ = ["Barrier"]

_WITHDRAWING: Final = 2.0
"""Seconds for which who gives up waits until its hold is withdrawn."""


class Barrier:
    """What ``barrier`` returns: enter it with ``async with``; the block runs once enough have entered.

    :param wait: begins to wait for the key.
    :param armed: fires once that wait is armed.
    :param hold: begins to hold the key.
    """

    def __init__(
        self,
        wait: Callable[[], Deferred[Json]],
        armed: Callable[[], Deferred[None]],
        hold: Callable[[], HoldAnswer],
    ) -> None:
        self._wait = wait
        self._armed = armed
        self._begin = hold

    async def __aenter__(self) -> Hold:
        # Armed before it is held: so this wait is woken even if those who pass first leave at once (W2).
        opened = self._wait()
        try:
            await self._armed()
            # The wait may end first, if the server is not reached.
            hold = self._hold = await _unless(opened, self._begin())
            try:
                await opened
            except BaseException:
                # It is over all the same.
                with suppress(Error):
                    await hold.withdraw(_WITHDRAWING)
                raise
        finally:
            opened.addErrback(lambda _: None)
            opened.cancel()
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)


async def _unless(ended: Deferred[Json], holding: HoldAnswer) -> Hold:
    """Return the hold; raise what ``ended`` errbacks with, if that is earlier."""
    failures: list[Failure] = []

    def cancel(failure: Failure) -> Failure:
        failures.append(failure)
        holding.cancel()
        return failure

    ended.addErrback(cancel)
    try:
        return await holding
    except CancelledError:
        for failure in failures:
            failure.raiseException()
        raise
