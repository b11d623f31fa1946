"""Watching a map in a thread."""

from __future__ import annotations

from typing import Self

from twisted.internet.defer import Deferred

from coord.blocking.bridge import Bridge
from coord.client import watch
from coord.core.records import CaughtUp, Record

__all__ = ["Watch"]


class Watch:
    """A context manager and iterator of `Record`, with one `CaughtUp` where the past ends.

    One thread may iterate at a time; closing the coordinator in another one ends that with `Closed`. See
    ``coord.Watch``.
    """

    def __init__(self, bridge: Bridge, watch: watch.Watch) -> None:
        self._bridge = bridge
        self._watch = watch

    def __enter__(self) -> Self:
        """Start watching. ``since="now"`` means the moment this returns, so it waits for the server."""
        self._bridge.ask(lambda: Deferred.fromCoroutine(self._watch.__aenter__()), lambda _: self._end())
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch; nothing is left behind."""
        self._bridge.ask(self._end)

    def _end(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._watch.__aexit__())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record | CaughtUp:
        # Taken by the thread that wants it: so a step that is interrupted loses no change.
        change = self._watch.take()
        if change is None:
            self._bridge.ask(lambda: Deferred.fromCoroutine(self._watch.fill()))
            change = self._watch.take()
        if change is None:
            raise StopIteration
        return change
