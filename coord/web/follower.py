"""One stream: what one client is shown of its maps, in order and once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from msgspec.json import encode
from twisted.internet.defer import Deferred

from coord.web.feed import Feed
from coord.web.frames import LATER, Format
from coord.web.place import Place
from coord.web.positions import Position, text_of
from coord.web.problems import Problem, problem_of
from coord.web.ring import Change

__all__ = ["Counts", "Follower", "Home", "Sight", "Sink"]

_RETRY: Final = 2_000
"""Milliseconds after which a client connects again, if the connection is lost."""

Sight = Callable[[str], bool]
"""Whether a stream shows a key."""


@dataclass(slots=True)
class Counts:
    """Counters since the gateway began, for metrics.

    ``resumes`` is by where the first changes came from, ``ends`` by reason.
    """

    events: int = 0
    bytes: int = 0
    lost: int = 0
    resumes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)


class Home(Protocol):
    """What streams share."""

    counts: Counts
    random: Random

    def paused(self, follower: Follower) -> None:
        """Note that a client does not read."""

    def resumed(self, follower: Follower) -> None:
        """Note that it reads again."""

    def left(self, follower: Follower, reason: str) -> None:
        """Forget a stream that is over."""


class Sink(Protocol):
    """Where a stream is written to. It calls `Follower.pause` and `Follower.resume`."""

    def write(self, data: bytes) -> None:
        """Send this."""

    def finish(self) -> None:
        """End well."""

    def abort(self) -> None:
        """Hang up; what was not sent is not."""


class Follower:
    """A stream, from `Hub.follow` until it is `over`.

    Nothing is queued for it. While its client does not read, it stays where it is, and goes on from there.

    :param hub: where it is one of many.
    :param places: each map's feed, where to begin in it, and which keys are shown.
    :param follow: whether to go on after the past.
    """

    __slots__ = (
        "_again", "_caught_up", "_follow", "_form", "_hub", "_looked", "_places", "_pumping", "_sent", "_sink",
        "over", "paused",
    )  # fmt: skip

    def __init__(
        self, hub: Home, places: Iterable[tuple[Feed, Position, Sight | None]], form: Format, *, follow: bool = True
    ) -> None:
        self.over = False
        self.paused = False
        self._hub = hub
        self._form = form
        self._follow = follow
        self._sink: Sink | None = None
        self._looked: Deferred[None] | None = None
        self._pumping = self._again = False
        self._caught_up = False
        # The last id that the client got.
        self._sent = b""
        self._places = tuple(Place(self, *place, ends=not follow) for place in places)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The feeds it listens to."""
        return tuple(place.feed for place in self._places)

    @property
    def begun(self) -> bool:
        """Whether it writes."""
        return self._sink is not None

    @property
    def id(self) -> bytes:
        """Where it is."""
        return text_of((place.feed.name, place.position) for place in self._places)

    # The beginning.

    def ready(self) -> Deferred[None]:
        """Return a Deferred that fires when it is known in each map how to go on; only before `begin`.

        :raises HistoryLost: the history does not reach back that far.
        """
        looked: Deferred[None] = Deferred()
        self._looked = looked
        self.look()
        return looked

    def begin(self, sink: Sink) -> None:
        """Write to this sink from now on, and at once what is there."""
        self._sink = sink
        self.write(self._form.retry(_RETRY))
        self.look()

    # What happens.

    def look(self) -> None:
        """Go on, if there is something to go on with."""
        if self._sink is None:
            self._look_only()
        elif self.paused:
            self.pause()
        else:
            self._pump()

    moved = look

    def lost(self, place: Place, asked: Position) -> None:
        """Tell that changes of a map are lost."""
        data = {"map": place.feed.name, "asked": str(asked), "head": str(place.position)}
        self._hub.counts.lost += 1
        self._name("lost", data)

    def resumed(self, origin: str) -> None:
        """Count it."""
        self._hub.counts.resumes[origin] += 1

    def failed(self, error: BaseException | None) -> None:
        """End, as a map cannot be watched."""
        assert error is not None
        looked, self._looked = self._looked, None
        if looked is None:
            self.end(problem_of(error))
        else:
            self._close("failed")
            looked.errback(error)

    def pause(self) -> None:
        """Stop writing: the client does not read what was written."""
        if not self.paused and not self.over:
            self.paused = True
            self._hub.paused(self)
        for place in self._places:
            place.rest()

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
            self._hub.resumed(self)
            self.look()

    def beat(self) -> None:
        """Write a sign of life, with the id if the client does not know it."""
        for place in self._places:
            place.retry()
        self.look()
        if not self._writable():
            return
        known = self.id if all(place.known for place in self._places) else b""
        self.write(self._form.beat(known, moved=known not in (b"", self._sent)))
        self._sent = known

    # The end.

    def end(self, problem: Problem) -> None:
        """Tell why it ends, and end."""
        if self._sink is not None and not self.over:
            if problem.status in (429, 503):
                self.write(self._form.retry(self._hub.random.randint(*LATER)))
            self.write(self._form.named("end", b"", problem.encoded()))
            self._finish(problem.name)

    def cut(self) -> None:
        """Hang up on a client that does not read."""
        sink = self._sink
        self._close("slow")
        if sink is not None:
            sink.abort()

    def gone(self) -> None:
        """End: the client has hung up."""
        self._close("client")

    def _finish(self, reason: str) -> None:
        sink = self._sink
        self._close(reason)
        if sink is not None:
            sink.finish()

    def _close(self, reason: str) -> None:
        if not self.over:
            self.over = True
            looked, self._looked = self._looked, None
            for place in self._places:
                place.close()
            self._sink = None
            self._hub.left(self, reason)
            if looked is not None:
                looked.errback(Problem("stopping"))

    # Going on.

    def _look_only(self) -> None:
        if self._looked is None:
            return
        found = [place.found() for place in self._places]
        looked = self._looked
        # One that failed at once has ended it.
        if looked is not None and all(found):
            self._looked = None
            looked.callback(None)

    def _pump(self) -> None:
        self._again = True
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._again:
                self._again = False
                for place in self._places:
                    self._again |= self._advance(place)
        finally:
            self._pumping = False
        self._mark_caught_up()

    def _writable(self) -> bool:
        return self._sink is not None and not self.paused

    def _advance(self, place: Place) -> bool:
        """Write a bite of one map's changes; return whether there was one."""
        if not self._writable():
            return False
        changes = place.bite()
        if not changes:
            return False
        shown = changes if place.sees is None else [change for change in changes if place.sees(change.key)]
        if len(self._places) == 1:
            frames = [change.frame(self._form) for change in shown]
        else:
            frames = [self._frame_of_many(place, change) for change in shown]
        place.position = changes[-1].revision
        if frames:
            self._hub.counts.events += len(frames)
            self._sent = shown[-1].id if len(self._places) == 1 else self.id
            self.write(b"".join(frames))
        return True

    def _frame_of_many(self, place: Place, change: Change) -> bytes:
        place.position = change.revision
        return self._form.change(self.id, change.data)

    def _mark_caught_up(self) -> None:
        if self._caught_up or not self._writable() or not all(place.reached for place in self._places):
            return
        self._caught_up = True
        self._name("caught-up", {"revision": self.id.decode()})
        if not self._follow:
            self._finish("complete")

    def _name(self, event: str, data: object) -> None:
        self._sent = self.id
        self.write(self._form.named(event, self._sent, encode(data)))

    def write(self, data: bytes) -> None:
        """Write this, if there is anything."""
        if data and self._sink is not None:
            self._hub.counts.bytes += len(data)
            self._sink.write(data)
