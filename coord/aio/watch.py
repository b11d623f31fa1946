"""Watching a map under asyncio."""

from __future__ import annotations

import asyncio
from typing import Self

from twisted.internet.defer import Deferred

from coord.aio.answers import Home, answer
from coord.client import watch
from coord.core.records import CaughtUp, Record

__all__ = ["Watch"]


class Watch:
    """An asynchronous context manager and iterator of `Record`, with one `CaughtUp` where the past ends.

    A step that is cancelled loses no change: the next one returns it. See ``coord.Watch``.
    """

    def __init__(self, home: Home, watch: watch.Watch) -> None:
        self._home = home
        self._watch = watch

    async def __aenter__(self) -> Self:
        """Start watching. ``since="now"`` means the moment this returns, so it waits for the server."""
        self._home.check()
        entering = answer(Deferred.fromCoroutine(self._watch.__aenter__()))
        try:
            await entering
        except asyncio.CancelledError:
            if not entering.cancelled():
                # It was entered before the task was cancelled.
                await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the watch; nothing is left behind."""
        self._home.check()
        await answer(Deferred.fromCoroutine(self._watch.__aexit__()))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record | CaughtUp:
        self._home.check()
        # Taken in the step that returns it, and not by the Deferred: a cancelled task does not get a future's result.
        change = self._watch.take()
        if change is None:
            await answer(Deferred.fromCoroutine(self._watch.fill()))
            change = self._watch.take()
        if change is None:
            raise StopAsyncIteration
        return change
