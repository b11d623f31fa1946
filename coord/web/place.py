"""Where one stream is in one map, and what it gets next from there.

What follows a position is in the ring of the last changes, or in a page of the history. A stream goes from page to
page until the ring has its position. So there is no seam to close: the ring has all that follows, or it is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from twisted.python.failure import Failure

from coord.core.records import Revision
from coord.errors import HistoryLost
from coord.web.feed import Feed
from coord.web.history import Page
from coord.web.positions import NOW, Position
from coord.web.ring import Change, bite_of

__all__ = ["Owner", "Place"]

_NONE: Final[list[Change]] = []


class Owner(Protocol):
    """The stream that a place is of; ``begun`` if it can tell what is lost."""

    @property
    def begun(self) -> bool:
        """Whether it writes."""

    def look(self) -> None:
        """See what the place has now."""

    def lost(self, place: Place, asked: Position) -> None:
        """Tell that the history behind ``asked`` is lost, and that the stream goes on behind the place's position."""

    def resumed(self, origin: str) -> None:
        """Count where a client that came back goes on: in the ``ring`` or the ``history``, or nowhere: ``lost``."""

    def failed(self, error: BaseException | None) -> None:
        """End: the map cannot be watched."""


class Place:
    """A position in a map.

    ``position`` is the last change that the stream has passed, shown or not. ``reached`` is whether it has been at the
    map's newest change.

    :param sees: whether the stream shows a key; `None` if it shows them all.
    :param ends: whether the stream ends at the map's newest change. Then it asks the server which that is: the ring,
        and pages that others have asked for, may be behind what its client knows.
    """

    __slots__ = (
        "_ends", "_fresh", "_head", "_lost", "_owner", "_page", "_reading", "_settled",
        "feed", "position", "reached", "sees",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, feed: Feed, position: Position, sees: Callable[[str], bool] | None, *, ends: bool
    ) -> None:
        self._ends = ends
        self.feed = feed
        self.position = position
        self.sees = sees
        self.reached = False
        # Whether a client that comes back has not been given anything yet.
        self._fresh = self.known
        self._owner = owner
        self._page: tuple[Page, int] | None = None
        # The position behind which a page is being read.
        self._reading: Position | None = None
        # The position that the history was read to the end from; the ring's head at that time.
        self._settled: Revision | None = None
        self._head: Revision | None = None
        # Whether the history behind the position is lost. It stays in the id until the client is told: who comes back
        # with it is told then.
        self._lost = False

    @property
    def known(self) -> bool:
        """Whether the position is a revision."""
        return not isinstance(self.position, str)

    def found(self) -> bool:
        """Whether it is known what comes next; if not, that is found out, and the stream told to look again."""
        if self._ends:
            return not self.reached and self._in_page()
        if (self._lost or self.position == NOW) and not self._arrive():
            return False
        return self._in_ring() or self._in_page()

    def bite(self) -> list[Change]:
        """Return the next changes, some `BITE` bytes of them; none if there are none now, or none are known yet."""
        while self.found():
            if self._page is None:
                assert isinstance(self.position, Revision)
                changes = self.feed.ring.after(self.position)
                self.reached = self.reached or not changes
                return changes
            page, index = self._page
            changes = bite_of(page.changes, index)
            if changes:
                self._page = page, index + len(changes)
                return changes
            self._leave(page)
        return _NONE

    def rest(self) -> None:
        """Keep nothing but the position: the client does not read."""
        self._page = None

    def retry(self) -> None:
        """Read the history again, if the ring has not come as far as that for some time."""
        self._settled = None

    def close(self) -> None:
        """Wait for nothing."""
        self._page = None
        if self._reading is not None:
            self.feed.history.leave(self._reading, self)
            self._reading = None

    def page_read(self, result: Page | Failure) -> None:
        """Go on with a page that was read."""
        asked, self._reading = self._reading, None
        if asked != self.position:
            # The ring, or a page that somebody else has asked for, was quicker.
            pass
        elif isinstance(result, Page):
            self._page = result, 0
        elif result.check(HistoryLost) and self._owner.begun and not self._ends:
            self._lost = True
            self._note("lost")
        else:
            self._owner.failed(result.value)
            return
        self._owner.look()

    def _note(self, origin: str) -> None:
        if self._fresh:
            self._fresh = False
            self._owner.resumed(origin)

    def _arrive(self) -> bool:
        """Begin at the head of the ring, if it has one."""
        head = self.feed.ring.head
        if head is None:
            return False
        asked, self.position = self.position, head
        lost, self._lost = self._lost, False
        if lost:
            self._owner.lost(self, asked)
        return True

    def _in_ring(self) -> bool:
        if not self.feed.ring.has(self.position):
            return False
        self._page = None
        self._note("ring")
        return True

    def _in_page(self) -> bool:
        if self._page is None and not self._ends:
            self._page = self.feed.history.find(self.position)
        if self._page is None and self._reading is None and not self._waits_for_ring():
            self._reading = self.position
            self._head = self.feed.ring.head
            self.feed.history.read(self.position, self, alone=self._ends)
        if self._page is None:
            return False
        self._note("history")
        return True

    def _waits_for_ring(self) -> bool:
        """Whether the history has nothing more to give, and the ring will."""
        head = self.feed.ring.head
        if self._settled is None or self._settled != self.position:
            return False
        return head is None or head <= self._settled or head == self._head

    def _leave(self, page: Page) -> None:
        self._page = None
        self.position = page.end
        if page.caught_up:
            self._settled = page.end
            self.reached = True
