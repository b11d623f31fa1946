"""One map of events under asyncio."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Mapping
from typing import NoReturn, Unpack

from coord.aio.answers import Home, answer
from coord.aio.holds import Barrier, Hold, Holding, Lock, holding, locking
from coord.aio.watch import Watch
from coord.client import events
from coord.client.events import CallOptions
from coord.client.holds import Holder
from coord.client.listings import Pages
from coord.core.acks import Acks
from coord.core.records import Applied, Counted, Listing, Page, Record, Revision
from coord.core.values import Json

__all__ = ["EventMap"]


class EventMap:
    """A named set of events, shared by every node of a namespace; see ``coord.EventMap`` for what each method does.

    Bad input raises at once, before anything is sent.
    """

    def __init__(self, home: Home, events: events.EventMap) -> None:
        self.name = events.name
        self._home = home
        self._events = events

    def __repr__(self) -> str:
        return repr(self._events)

    @property
    def _here(self) -> events.EventMap:
        """The map for Twisted, on its own loop only."""
        self._home.check()
        return self._events

    # Waiting.

    def __getitem__(self, key: str) -> Future[Json]:
        """Return a future of your own for the value of ``key``; done at once if this node already knows it."""
        return answer(self._here[key])

    def wait(self, key: str, timeout: float | None = None) -> Future[Json]:
        """Return the same, with a deadline: it fails with `TimedOut`, a ``TimeoutError``, after ``timeout`` seconds."""
        return answer(self._here.wait(key, timeout))

    def wait_all(self, keys: Iterable[str], timeout: float | None = None) -> Future[dict[str, Json]]:
        """Wait for ``{key: value}`` once every key has fired; fails as soon as one fails."""
        return answer(self._here.wait_all(keys, timeout))

    def wait_any(self, keys: Iterable[str], timeout: float | None = None) -> Future[tuple[str, Json]]:
        """Wait for ``(key, value)`` of the first key that fires or fails."""
        return answer(self._here.wait_any(keys, timeout))

    def gone(self, key: str, timeout: float | None = None) -> Future[Record | None]:
        """Wait until the event of ``key`` is over, for the record that ended it."""
        return answer(self._here.gone(key, timeout))

    def reaches(self, key: str, n: int, timeout: float | None = None) -> Future[Record]:
        """Wait for the record of ``key`` once its count is at least ``n``."""
        return answer(self._here.reaches(key, n, timeout))

    def armed(self) -> Future[None]:
        """Wait until every wait so far is armed or resolved: none can miss a later fire."""
        return answer(self._here.armed())

    # Calls.

    def fire(
        self, key: str, value: object = True, *, ttl: float | None = None, **options: Unpack[CallOptions]
    ) -> Future[Applied]:
        """Fire the event: every waiter of the cluster gets ``value``, and later waits get it at once."""
        return answer(self._here.fire(key, value, ttl=ttl, **options))

    def fire_all(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        replicas: int = 0,
        within: float = 2.0,
    ) -> Future[dict[str, Applied]]:
        """Fire an event for each key, with its value, in one go; return ``{key: Applied}`` once all are answered."""
        return answer(self._here.fire_all(values, ttl=ttl, timeout=timeout, replicas=replicas, within=within))

    def expire(self, key: str, ttl: float, **options: Unpack[CallOptions]) -> Future[Applied]:
        """Have an event that was fired with a TTL end ``ttl`` seconds from now."""
        return answer(self._here.expire(key, ttl, **options))

    def fail(self, key: str, reason: object, **options: Unpack[CallOptions]) -> Future[Applied]:
        """Fail the event: every waiter gets `EventFailed` with ``reason``, a JSON value or an exception."""
        return answer(self._here.fail(key, reason, **options))

    def pulse(self, key: str, value: object = True, **options: Unpack[CallOptions]) -> Future[Applied]:
        """Wake every current waiter with ``value``; the key is pending afterwards."""
        return answer(self._here.pulse(key, value, **options))

    def reset(
        self, key: str, revision: Revision | str | None = None, *, evict: bool = False, **options: Unpack[CallOptions]
    ) -> Future[Applied]:
        """Make a key pending again; with ``revision`` only that record, with ``evict`` although it is held."""
        return answer(self._here.reset(key, revision, evict=evict, **options))

    def count(
        self,
        key: str,
        n: int = 1,
        *,
        goal: int | None = None,
        who: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Future[Counted]:
        """Add ``n`` to the counter of ``key``; at its ``goal`` the key is fired. ``who`` counts once."""
        return answer(self._here.count(key, n, goal=goal, who=who, **options))

    # Holding.

    def hold(
        self, key: str, value: object = True, *, need: int = 1, timeout: float | None = None, cancel: bool = True
    ) -> Holding[Hold]:
        """Hold the key: its event is latched while anybody holds it. Await the hold, or enter it with ``async with``.

        :param cancel: whether the block is cancelled, and raises `HoldLost`, if somebody else ends the hold.
        """
        return holding(self._home, self._here.hold(key, value, need=need, timeout=timeout), cancel=cancel)

    def lock(
        self, key: str, value: object = True, *, timeout: float | None = None, cancel: bool = True
    ) -> Holding[Lock]:
        """Wait ``timeout`` seconds for the lock of ``key``. Await it, or enter it with ``async with``.

        :param cancel: whether the block is cancelled, and raises `HoldLost`, when the lock is lost.
        """
        return locking(self._home, self._here.lock(key, value, timeout=timeout), cancel=cancel)

    def elect(self, key: str, value: object, *, cancel: bool = True) -> Holding[Lock]:
        """Stand for election: wait for the lock of ``key``. The grant fires the key with ``value``."""
        return locking(self._home, self._here.elect(key, value), cancel=cancel)

    def semaphore(
        self, key: str, slots: int, value: object = True, *, timeout: float | None = None, cancel: bool = True
    ) -> Holding[Lock]:
        """Wait for one of the locks ``key/0`` to ``key/N``, of which there are ``slots``."""
        return locking(self._home, self._here.semaphore(key, slots, value, timeout=timeout), cancel=cancel)

    def barrier(
        self, key: str, parties: int, value: object = True, *, timeout: float | None = None, cancel: bool = True
    ) -> Barrier:
        """Return a context manager whose block runs once ``parties`` have entered it, in the whole cluster."""
        return Barrier(self._home, self._here.barrier(key, parties, value, timeout=timeout), cancel=cancel)

    # Acknowledgements.

    def ack(self, record: Record | Revision | str, **options: Unpack[CallOptions]) -> Future[None]:
        """Acknowledge a change: call this when your handler has done what the change asks of it."""
        return answer(self._here.ack(record, **options))

    def acked(
        self, record: Record | Revision | str, by: Iterable[str] | int, timeout: float | None = None
    ) -> Future[Acks]:
        """Wait until handlers have acknowledged a change: by name, a number of names, or `coord.MEMBERS`."""
        return answer(self._here.acked(record, by, timeout))

    # Queries.

    def record(self, key: str) -> Future[Record | None]:
        """Ask the server for the current record of ``key``; ``None`` if it has none."""
        return answer(self._here.record(key))

    def holders(self, key: str, limit: int = 1_000) -> Future[tuple[int, list[Holder]]]:
        """Ask the server who holds ``key``: the number of holders, and at most ``limit`` of them, the oldest first."""
        return answer(self._here.holders(key, limit))

    def records(self, prefix: str = "") -> Future[Listing]:
        """List the records of all keys that begin with ``prefix``, with the revision to resume a watch from."""
        return answer(self._here.records(prefix))

    def page(self, prefix: str = "", after: str | None = None, limit: int = 500) -> Future[Page]:
        """Return one page of this listing: the first, or the one that follows, with ``after`` a page's ``next``."""
        return answer(self._here.page(prefix, after, limit))

    def pages(self, prefix: str = "", limit: int = 500) -> Pages:
        """Return an asynchronous iterator of all pages; each is fetched on demand."""
        self._home.check()
        return Pages(self.page, prefix, limit)

    def remove_foreign(self) -> Future[tuple[str, ...]]:
        """Remove fields that other programs wrote into this map under names that are not valid keys."""
        return answer(self._here.remove_foreign())

    def subscribers(self, keys: Iterable[str]) -> Future[dict[str, int]]:
        """Count, for each key, the nodes that are subscribed to it now (waiting for it, or caching it)."""
        return answer(self._here.subscribers(keys))

    def watch(self, prefix: str = "", since: str | Revision = "now") -> Watch:
        """Return the ordered history of the keys that begin with ``prefix``, from ``since`` on and then live."""
        return Watch(self._home, self._here.watch(prefix, since))

    # What would mislead is refused.

    def __setitem__(self, key: str, value: object) -> NoReturn:
        self._events[key] = value

    def __delitem__(self, key: str) -> NoReturn:
        del self._events[key]

    def __contains__(self, key: object) -> NoReturn:
        self._events.__contains__(key)

    def __iter__(self) -> NoReturn:
        self._events.__iter__()

    def __len__(self) -> NoReturn:
        self._events.__len__()

    def __bool__(self) -> NoReturn:
        self._events.__bool__()
