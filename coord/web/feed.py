"""One map that streams follow: a watch, however many they are, and the last changes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.client.watch import Watch
from coord.core.records import CaughtUp, Record
from coord.errors import Error, HistoryLost
from coord.web.history import History
from coord.web.positions import NOW
from coord.web.ring import Change, Ring

if TYPE_CHECKING:
    from coord import EventMap

__all__ = ["Feed", "Listener"]

_SLICE: Final = 200
"""How many streams are written to before the reactor looks at other work, for some 5 ms."""


class Listener(Protocol):
    """Who follows a feed."""

    def moved(self) -> None:
        """Look for changes: there are new ones, or the ring has begun anew."""

    def failed(self, error: BaseException | None) -> None:
        """End: the map cannot be watched."""


class Feed:
    """The changes of one map, as streams get them: from the ``ring``, or behind it from its ``history``.

    It watches from `start` to `stop`. If the watch loses its place in the history, the ring begins anew at the map's
    head, and each stream learns from the history whether it has lost changes.

    :param events: the map.
    :param history: its past.
    :param encode: makes the change of a record.
    :param soon: calls a function in a later turn.
    """

    _log = Logger()

    def __init__(
        self,
        events: EventMap,
        history: History,
        encode: Callable[[Record], Change],
        soon: Callable[[Callable[[], None]], Any],
    ) -> None:
        self.name = events.name
        self.ring = Ring()
        self.history = history
        self.listeners: dict[Listener, None] = {}
        self._events = events
        self._encode = encode
        self._soon = soon
        self._running: Deferred[None] | None = None
        self._telling: Iterator[Listener] | None = None
        self._tell_again = False

    def __repr__(self) -> str:
        return f"<feed of {self.name}: {len(self.listeners)} listen>"

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._running is not None

    def start(self) -> None:
        """Watch the map."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stop(self) -> None:
        """End the watch, and forget what it has kept."""
        running, self._running = self._running, None
        self.history.close()
        if running is not None:
            running.cancel()

    # The watch.

    async def _run(self) -> None:
        while True:
            try:
                await self._follow(self._events.watch(since=NOW))
            except HistoryLost as error:
                self._log.info("streams of map {name}: {error}", name=self.name, error=error)

    async def _follow(self, watch: Watch) -> None:
        async with watch as changes:
            while True:
                await changes.fill()
                while (item := changes.take()) is not None:
                    self._received(item)
                self._tell()

    def _received(self, item: Record | CaughtUp) -> None:
        if isinstance(item, CaughtUp):
            self.ring.begin(item.revision)
        else:
            self.ring.append(self._encode(item))

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError) and self._running is None:
            return
        self._running = None
        if not failure.check(Error):
            self._log.failure("streams of map {name}", failure, name=self.name)
        for listener in list(self.listeners):
            listener.failed(failure.value)

    # Telling.

    def _tell(self) -> None:
        """Have all listeners look, some in each turn; what comes meanwhile is told in the next round."""
        self._tell_again = True
        if self._telling is None:
            self._round()

    def _round(self) -> None:
        if self._telling is None:
            if not self._tell_again:
                return
            self._tell_again = False
            self._telling = iter(list(self.listeners))
        left = _SLICE
        for listener in self._telling:
            if listener in self.listeners:
                self._tell_one(listener)
            left -= 1
            if not left:
                break
        else:
            self._telling = None
        if self._telling is not None or self._tell_again:
            self._soon(self._round)

    def _tell_one(self, listener: Listener) -> None:
        try:
            listener.moved()
        except Exception as error:  # noqa: BLE001 - a fault in one stream must not end the others
            self._log.failure("a stream of map {name}", name=self.name)
            listener.failed(error)
