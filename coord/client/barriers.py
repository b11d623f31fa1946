"""Barriers: nobody passes before so many are there."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from twisted.internet.defer import Deferred

from coord.client.holds import Hold, HoldAnswer
from coord.core.values import Json

__all__ = ["Barrier"]


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
            hold = self._hold = await self._begin()
            try:
                await opened
            except BaseException:
                await hold.withdraw()
                raise
        finally:
            opened.addErrback(lambda _: None)
            opened.cancel()
        return hold

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)
