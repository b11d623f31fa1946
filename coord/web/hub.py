"""All streams of a gateway: one watch a map, one timer, and the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from coord.core.records import Record
from coord.web.feed import Feed
from coord.web.follower import Counts, Follower, Sight
from coord.web.frames import Format
from coord.web.history import History, Pages
from coord.web.positions import Position
from coord.web.problems import Problem
from coord.web.ring import Change
from coord.web.wheel import Wheel

if TYPE_CHECKING:
    from coord import EventMap

__all__ = ["Hub", "Wanted"]

_BEAT: Final = 15
"""Seconds between two signs of life of a stream."""

_LINGERS: Final = 30.0
"""Seconds for which a map is still watched when nobody listens: who comes back finds the ring."""

_LINGERING: Final = 1_000
"""How many such maps there may be: a client may name any map."""

_PATIENCE: Final = 30.0
"""Seconds for which a client may read nothing."""

_STOP: Final = 2.0
"""Seconds over which the streams end when the gateway stops: their clients do not all come back at once."""

_STEP: Final = 0.05
"""Seconds between two parts of them."""


class Wanted(NamedTuple):
    """What a stream wants of a map: where to begin, and which keys to show; `None` shows all."""

    map: str
    position: Position
    sees: Sight | None = None


class Hub:
    """See the module's text.

    :param events: returns a map by its name, for what is live.
    :param past: the same, by a link that may be slow, for what has been.
    :param encode: returns a record as JSON.
    :param clock: has ``seconds`` and ``callLater``.
    :param most: returns how many streams there may be, and how many of one owner.
    """

    def __init__(
        self,
        events: Callable[[str], EventMap],
        past: Callable[[str], EventMap],
        encode: Callable[[Record], bytes],
        clock: Any,
        *,
        most: Callable[[], tuple[int, int]] = lambda: (20_000, 1_000),
        random: Random | None = None,
    ) -> None:
        self.counts = Counts()
        self.random = random or Random()  # noqa: S311 - it only spreads clients over time
        self._most = most
        self._events = events
        self._past = past
        self._encode = encode
        self._clock = clock
        self._feeds: dict[str, Feed] = {}
        # Feeds that nobody listens to, and since when.
        self._idle: dict[Feed, float] = {}
        self._owners: dict[Follower, str] = {}
        self._of_one: Counter[str] = Counter()
        self._wheel: Wheel[Follower] = Wheel(_BEAT)
        self._paused: dict[Follower, float] = {}
        self._pages = Pages(clock.seconds)
        self._timer: Any = None
        self._stopped: Deferred[None] | None = None

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._owners)

    def follow(self, owner: str, wanted: Sequence[Wanted], form: Format, *, follow: bool = True) -> Follower:
        """Return a new stream; raise the `Problem` 429 if there are too many, and 503 while it stops."""
        if self._stopped is not None:
            raise Problem("stopping")
        most, most_of_one = self._most()
        if len(self._owners) >= most:
            raise Problem("too-many", f"the gateway has {most} streams, and takes no more")
        if self._of_one[owner] >= most_of_one:
            raise Problem("too-many", f"{owner} has {most_of_one} streams, and gets no more")
        places = [(self._feed(each.map), each.position, each.sees) for each in wanted]
        follower = Follower(self, places, form, follow=follow)
        self._owners[follower] = owner
        self._of_one[owner] += 1
        self._wheel.add(follower)
        for feed in follower.feeds:
            feed.listeners[follower] = None
            self._idle.pop(feed, None)
        self._run_timer()
        return follower

    def close(self) -> Deferred[None]:
        """End all streams, each at a time of its own within 2 s; then all watches."""
        if self._stopped is None:
            self._stopped = Deferred()
            self._end_some(list(self._owners), self._clock.seconds() + _STOP)
        return self._stopped

    # What streams tell.

    def left(self, follower: Follower, reason: str) -> None:
        """Forget a stream that is over."""
        owner = self._owners.pop(follower)
        self._of_one[owner] -= 1
        if not self._of_one[owner]:
            del self._of_one[owner]
        self._wheel.discard(follower)
        self._paused.pop(follower, None)
        self.counts.ends[reason] += 1
        for feed in follower.feeds:
            del feed.listeners[follower]
            if not feed.listeners:
                self._idle[feed] = self._clock.seconds()
        while len(self._idle) > _LINGERING:
            self._stop_feed(next(iter(self._idle)))

    def paused(self, follower: Follower) -> None:
        """Note that a client does not read."""
        self._paused[follower] = self._clock.seconds()

    def resumed(self, follower: Follower) -> None:
        """Note that it reads again."""
        self._paused.pop(follower, None)

    # Feeds.

    def _feed(self, name: str) -> Feed:
        feed = self._feeds.get(name)
        if feed is None or not feed.running:
            past = self._past(name)
            history = History(lambda since: past.watch(since=since), self._change, self._pages)
            feed = self._feeds[name] = Feed(self._events(name), history, self._change, self._soon)
            feed.start()
        return feed

    def _change(self, record: Record) -> Change:
        return Change(record.revision, record.key, self._encode(record))

    def _soon(self, function: Callable[[], None]) -> None:
        self._clock.callLater(0, function)

    def _stop_feed(self, feed: Feed) -> None:
        del self._idle[feed]
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
        feed.stop()

    # Time.

    def _run_timer(self) -> None:
        if self._timer is None and (self._owners or self._idle):
            self._timer = self._clock.callLater(1, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for follower in self._wheel.tick():
            follower.beat()
        # The longest paused come first.
        for follower in list(takewhile(lambda each: self._paused[each] <= now - _PATIENCE, self._paused)):
            follower.cut()
        for feed in [feed for feed, since in self._idle.items() if since <= now - _LINGERS]:
            self._stop_feed(feed)
        self._pages.forget()
        self._run_timer()

    # The end.

    def _end_some(self, left: list[Follower], end: float) -> None:
        """End a part of the streams, and then the others, until they are all ended by ``end``."""
        now = self._clock.seconds()
        turns = max(1, round((end - now) / _STEP))
        for _ in range(ceil(len(left) / turns)):
            left.pop().end(Problem("stopping"))
        if left:
            self._clock.callLater(_STEP, self._end_some, left, end)
        else:
            self._end_all()

    def _end_all(self) -> None:
        for follower in list(self._owners):
            # One that has begun meanwhile; and one that has not.
            follower.end(Problem("stopping"))
            follower.gone()
        for feed in list(self._idle):
            self._stop_feed(feed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._stopped is not None
        self._stopped.callback(None)
