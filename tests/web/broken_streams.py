"""The streams' hub, broken on purpose: one mistake each, which the schedules must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from coord.core.records import CaughtUp
from coord.web.feed import Feed
from coord.web.follower import Follower
from coord.web.history import Page
from coord.web.place import Place
from coord.web.positions import NOW, text_of
from coord.web.ring import Ring, bite_of

__all__ = ["VARIANTS"]

Variant = Callable[[], AbstractContextManager[Any]]


@contextmanager
def a_ring_takes_each_position() -> Iterator[None]:
    """Go on behind a position that the ring has forgotten."""

    def has(ring: Ring, position: Any) -> bool:
        return ring.head is not None and not isinstance(position, str) and position <= ring.head

    def after(ring: Ring, position: Any) -> Any:
        return bite_of([change for change in ring._changes if change.revision > position], 0)

    with patch.object(Ring, "has", has), patch.object(Ring, "after", after):
        yield


@contextmanager
def the_seam_is_skipped() -> Iterator[None]:
    """Go on with the newest change, once the history is read."""

    def leave(place: Place, page: Page) -> None:
        old(place, page)
        if page.caught_up:
            place.position = place.feed.ring.head or place.position

    old = Place._leave
    with patch.object(Place, "_leave", leave):
        yield


@contextmanager
def a_page_begins_one_early() -> Iterator[None]:
    """Go on inside of a page with the change that the client has seen."""

    def positions(page: Page) -> Any:
        return [(at, max(0, index - 1)) for at, index in old(page)]

    old = Page.positions
    with patch.object(Page, "positions", positions):
        yield


@contextmanager
def losses_are_silent() -> Iterator[None]:
    """Go on at the head, and say nothing."""
    with patch.object(Follower, "lost", lambda *_: None):
        yield


@contextmanager
def a_ring_goes_on_over_a_loss() -> Iterator[None]:
    """Keep the changes from before a loss."""

    def received(feed: Feed, item: Any) -> None:
        if not isinstance(item, CaughtUp) or feed.ring.head is None:
            old(feed, item)

    old = Feed._received
    with patch.object(Feed, "_received", received):
        yield


@contextmanager
def slow_clients_skip() -> Iterator[None]:
    """Go on with what is new when a client reads again."""

    def resume(follower: Follower) -> None:
        if follower.paused:
            for place in follower._places:
                place.position = place.feed.ring.head or place.position
        old(follower)

    old = Follower.resume
    with patch.object(Follower, "resume", resume):
        yield


@contextmanager
def ids_are_of_the_newest() -> Iterator[None]:
    """Say of a map that one has seen all there is."""

    def id_of(follower: Follower) -> bytes:
        return text_of((place.feed.name, place.feed.ring.head or place.position) for place in follower._places)

    with patch.object(Follower, "id", property(id_of)):
        yield


@contextmanager
def a_lost_position_is_forgotten() -> Iterator[None]:
    """Say ``now`` in the id while it is not known where to go on after a loss."""

    def id_of(follower: Follower) -> bytes:
        return text_of((place.feed.name, NOW if place._lost else place.position) for place in follower._places)

    with patch.object(Follower, "id", property(id_of)):
        yield


@contextmanager
def some_are_not_told() -> Iterator[None]:
    """Tell the first two streams of a map only."""

    def tell(feed: Feed) -> None:
        for listener in list(feed.listeners)[:2]:
            listener.moved()

    with patch.object(Feed, "_tell", tell):
        yield


@contextmanager
def the_ring_is_waited_for() -> Iterator[None]:
    """Wait for a position to come into the ring that is in the history only."""

    def waits(place: Place) -> bool:
        return place._settled == place.position

    with patch.object(Place, "_waits_for_ring", waits), patch.object(Place, "retry", lambda _: None):
        yield


@contextmanager
def a_page_comes_late() -> Iterator[None]:
    """Use a page although the ring, or another page, was quicker."""

    def page_read(place: Place, result: Any) -> None:
        if place._reading != place.position and isinstance(result, Page):
            place.position = result.after or place.position
            place._reading = place.position
        old(place, result)

    old = Place.page_read
    with patch.object(Place, "page_read", page_read):
        yield


VARIANTS: Final[tuple[tuple[Variant, int], ...]] = (
    (a_ring_takes_each_position, 0),
    (the_seam_is_skipped, 0),
    (a_page_begins_one_early, 1),
    (losses_are_silent, 0),
    (a_ring_goes_on_over_a_loss, 2),
    (slow_clients_skip, 1),
    (ids_are_of_the_newest, 0),
    (a_lost_position_is_forgotten, 20),
    (some_are_not_told, 0),
    (the_ring_is_waited_for, 5),
    (a_page_comes_late, 1193),
)
"""Each mistake, and a schedule that shows it, or did before something else was changed."""
