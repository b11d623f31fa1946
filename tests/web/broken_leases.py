"""Mistakes in locks over HTTP, of a gateway and of its clients; each must break a schedule of `web.lease_world`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from typing import Any, Final
from unittest.mock import patch

from coord.session.leases import Leases, Renewal
from web.lease_client import Contender

__all__ = ["VARIANTS"]


@contextmanager
def renews_nothing() -> Iterator[None]:
    """A renewal of a grant looks whether it stands, and does not renew the lease."""
    old: Any = Leases.renew

    async def renew(leases: Leases, map_state: Any, name: Any, ttl: Any, *, makes: bool) -> Renewal:
        known = leases._known.get(map_state.names.name)
        if makes or known is None:
            return await old(leases, map_state, name, ttl, makes=makes)  # type: ignore[no-any-return]
        return Renewal(name.lease(known.epoch), known.times, leases.clock.seconds())

    with patch.object(Leases, "renew", renew):
        yield


@contextmanager
def gives_an_evicted_lock_on_at_once() -> Iterator[None]:
    """The lock of an owner that was evicted is released before its client can have heard of it."""
    old: Any = Leases.release_later

    def release_later(leases: Leases, map_state: Any, name: Any, place: Any, seconds: float) -> None:
        old(leases, map_state, name, place, 0.0)

    with patch.object(Leases, "release_later", release_later):
        yield


@contextmanager
def the_client_renews_nothing() -> Iterator[None]:
    """A client takes a lock for its own until it gives it back."""
    old: Any = Contender._told

    def told(client: Contender, asked: Any, status: int, body: dict[str, object]) -> None:
        old(client, asked, status, body)
        if client.token:
            client.deadline = inf

    with patch.object(Contender, "_told", told):
        yield


VARIANTS: Final[list[tuple[Callable[[], AbstractContextManager[None]], int]]] = [
    (renews_nothing, 6),
    (gives_an_evicted_lock_on_at_once, 13),
    (the_client_renews_nothing, 0),
]
"""Each with a seed whose schedule breaks."""
