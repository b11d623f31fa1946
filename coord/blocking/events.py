"""One map of events for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import NoReturn, TypeVar, Unpack

from twisted.internet.defer import Deferred

from coord.blocking.bridge import Bridge
from coord.blocking.holds import Barrier, Hold, Lock
from coord.blocking.watch import Watch
from coord.client import events, holds, locks
from coord.client.events import CallOptions
from coord.client.holds import Holder
from coord.core.acks import Acks
from coord.core.names import MEMBERS, check_key
from coord.core.records import Applied, Counted, Listing, Page, Record, Revision
from coord.core.values import Json

__all__ = ["EventMap"]

T = TypeVar("T")


class EventMap:
    """A named set of events, shared by every node of a namespace; see ``coord.EventMap`` for what each method does.

    Bad input raises at once, before anything is sent.
    """

    def __init__(self, bridge: Callable[[], Bridge], namespace: str, name: str) -> None:
        self.name = name
        self._namespace = namespace
        self._bridge = bridge
        self._kept: tuple[Bridge, events.EventMap] | None = None

    def __repr__(self) -> str:
        return f"<EventMap {self._namespace}/{self.name}>"

    def _ask(self, ask: Callable[[events.EventMap], Deferred[T]], undo: Callable[[T], object] | None = None) -> T:
        """Ask the map of Twisted, and wait for the answer."""
        bridge = self._bridge()
        return bridge.ask(lambda: ask(self._events(bridge)), undo)

    def _events(self, bridge: Bridge) -> events.EventMap:
        """Return the map of Twisted; in the reactor's thread."""
        if self._kept is None or self._kept[0] is not bridge:
            node = bridge.node
            self._kept = bridge, node.members if self.name == MEMBERS else node.events(self.name)
        return self._kept[1]

    # Waiting.

    def __getitem__(self, key: str) -> Future[Json]:
        """Return a future of your own for the value of ``key``; to cancel it leaves nothing behind."""
        check_key(key)
        bridge = self._bridge()
        return bridge.begin(lambda: self._events(bridge)[key])

    def wait(self, key: str, timeout: float | None = None) -> Json:
        """Return the same, with a deadline: it fails with `TimedOut`, a ``TimeoutError``, after ``timeout`` seconds."""
        return self._ask(lambda events: events.wait(key, timeout))

    def wait_all(self, keys: Iterable[str], timeout: float | None = None) -> dict[str, Json]:
        """Wait for ``{key: value}`` once every key has fired; fails as soon as one fails."""
        return self._ask(lambda events: events.wait_all(keys, timeout))

    def wait_any(self, keys: Iterable[str], timeout: float | None = None) -> tuple[str, Json]:
        """Wait for ``(key, value)`` of the first key that fires or fails."""
        return self._ask(lambda events: events.wait_any(keys, timeout))

    def gone(self, key: str, timeout: float | None = None) -> Record | None:
        """Wait until the event of ``key`` is over, for the record that ended it."""
        return self._ask(lambda events: events.gone(key, timeout))

    def reaches(self, key: str, n: int, timeout: float | None = None) -> Record:
        """Wait for the record of ``key`` once its count is at least ``n``."""
        return self._ask(lambda events: events.reaches(key, n, timeout))

    def armed(self) -> None:
        """Return once every wait so far is armed or resolved: none can miss a later fire."""
        return self._ask(lambda events: events.armed())

    # Calls.

    def fire(
        self, key: str, value: object = True, *, ttl: float | None = None, **options: Unpack[CallOptions]
    ) -> Applied:
        """Fire the event: every waiter of the cluster gets ``value``, and later waits get it at once."""
        return self._ask(lambda events: events.fire(key, value, ttl=ttl, **options))

    def fire_all(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        replicas: int = 0,
        within: float = 2.0,
    ) -> dict[str, Applied]:
        """Fire an event for each key, with its value, in one go; return ``{key: Applied}`` once all are answered."""
        return self._ask(
            lambda events: events.fire_all(values, ttl=ttl, timeout=timeout, replicas=replicas, within=within)
        )

    def expire(self, key: str, ttl: float, **options: Unpack[CallOptions]) -> Applied:
        """Have an event that was fired with a TTL end ``ttl`` seconds from now."""
        return self._ask(lambda events: events.expire(key, ttl, **options))

    def fail(self, key: str, reason: object, **options: Unpack[CallOptions]) -> Applied:
        """Fail the event: every waiter gets `EventFailed` with ``reason``, a JSON value or an exception."""
        return self._ask(lambda events: events.fail(key, reason, **options))

    def pulse(self, key: str, value: object = True, **options: Unpack[CallOptions]) -> Applied:
        """Wake every current waiter with ``value``; the key is pending afterwards."""
        return self._ask(lambda events: events.pulse(key, value, **options))

    def reset(
        self, key: str, revision: Revision | str | None = None, *, evict: bool = False, **options: Unpack[CallOptions]
    ) -> Applied:
        """Make a key pending again; with ``revision`` only that record, with ``evict`` although it is held."""
        return self._ask(lambda events: events.reset(key, revision, evict=evict, **options))

    def count(
        self,
        key: str,
        n: int = 1,
        *,
        goal: int | None = None,
        who: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Counted:
        """Add ``n`` to the counter of ``key``; at its ``goal`` the key is fired. ``who`` counts once."""
        return self._ask(lambda events: events.count(key, n, goal=goal, who=who, **options))

    # Holding.

    def hold(self, key: str, value: object = True, *, need: int = 1, timeout: float | None = None) -> Hold:
        """Hold the key: its event is latched while anybody holds it. The hold can be entered by ``with``."""
        bridge = self._bridge()

        def ask() -> Deferred[Hold]:
            holding: Deferred[holds.Hold] = self._events(bridge).hold(key, value, need=need, timeout=timeout)
            return holding.addCallback(lambda hold: Hold(bridge, hold))

        return bridge.ask(ask, Hold._give_up)

    def lock(self, key: str, value: object = True, *, timeout: float | None = None) -> Lock:
        """Wait ``timeout`` seconds for the lock of ``key``, and return it; it can be entered by ``with``."""
        return self._lock(lambda events: events.lock(key, value, timeout=timeout))

    def elect(self, key: str, value: object) -> Lock:
        """Stand for election: wait for the lock of ``key``. The grant fires the key with ``value``."""
        return self._lock(lambda events: events.elect(key, value))

    def semaphore(self, key: str, slots: int, value: object = True, *, timeout: float | None = None) -> Lock:
        """Wait for one of the locks ``key/0`` to ``key/N``, of which there are ``slots``."""
        return self._lock(lambda events: events.semaphore(key, slots, value, timeout=timeout))

    def _lock(self, lock: Callable[[events.EventMap], Deferred[locks.Lock]]) -> Lock:
        bridge = self._bridge()

        def ask() -> Deferred[Lock]:
            return lock(self._events(bridge)).addCallback(lambda granted: Lock(bridge, granted))

        return bridge.ask(ask, Lock._give_up)

    def barrier(self, key: str, parties: int, value: object = True, *, timeout: float | None = None) -> Barrier:
        """Return a context manager whose block runs once ``parties`` have entered it, in the whole cluster."""
        bridge = self._bridge()
        barrier = bridge.call(lambda: self._events(bridge).barrier(key, parties, value, timeout=timeout))
        return Barrier(bridge, barrier)

    # Acknowledgements.

    def ack(self, record: Record | Revision | str, **options: Unpack[CallOptions]) -> None:
        """Acknowledge a change: call this when your handler has done what the change asks of it."""
        self._ask(lambda events: events.ack(record, **options))

    def acked(self, record: Record | Revision | str, by: Iterable[str] | int, timeout: float | None = None) -> Acks:
        """Wait until handlers have acknowledged a change: by name, a number of names, or `coord.MEMBERS`."""
        return self._ask(lambda events: events.acked(record, by, timeout))

    # Queries.

    def record(self, key: str) -> Record | None:
        """Ask the server for the current record of ``key``; ``None`` if it has none."""
        return self._ask(lambda events: events.record(key))

    def holders(self, key: str, limit: int = 1_000) -> tuple[int, list[Holder]]:
        """Ask the server who holds ``key``: the number of holders, and at most ``limit`` of them, the oldest first."""
        return self._ask(lambda events: events.holders(key, limit))

    def records(self, prefix: str = "") -> Listing:
        """List the records of all keys that begin with ``prefix``, with the revision to resume a watch from."""
        return self._ask(lambda events: events.records(prefix))

    def page(self, prefix: str = "", after: str | None = None, limit: int = 500) -> Page:
        """Return one page of this listing: the first, or the one that follows, with ``after`` a page's ``next``."""
        return self._ask(lambda events: events.page(prefix, after, limit))

    def pages(self, prefix: str = "", limit: int = 500) -> Iterator[Page]:
        """Return an iterator of all pages; each is fetched on demand."""
        bridge = self._bridge()
        # Bad input raises at once.
        bridge.call(lambda: self._events(bridge).pages(prefix, limit))
        return self._pages(prefix, limit)

    def _pages(self, prefix: str, limit: int) -> Iterator[Page]:
        after: str | None = None
        while True:
            page = self.page(prefix, after, limit)
            yield page
            after = page.next
            if after is None:
                return

    def remove_foreign(self) -> tuple[str, ...]:
        """Remove fields that other programs wrote into this map under names that are not valid keys."""
        return self._ask(lambda events: events.remove_foreign())

    def subscribers(self, keys: Iterable[str]) -> dict[str, int]:
        """Count, for each key, the nodes that are subscribed to it now (waiting for it, or caching it)."""
        return self._ask(lambda events: events.subscribers(keys))

    def watch(self, prefix: str = "", since: str | Revision = "now") -> Watch:
        """Return the ordered history of the keys that begin with ``prefix``, from ``since`` on and then live."""
        bridge = self._bridge()
        return Watch(bridge, bridge.call(lambda: self._events(bridge).watch(prefix, since)))

    # What would mislead is refused.

    def __setitem__(self, key: str, value: object) -> NoReturn:
        raise TypeError("events are not assigned: call fire(key, value), and reset(key) to re-arm")

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("events are not deleted: call reset(key) to make one pending again")

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError("'in' cannot ask the cluster: call record(key), and look at its .latched")

    def __iter__(self) -> NoReturn:
        raise TypeError("iteration cannot ask the cluster: call records()")

    def __len__(self) -> NoReturn:
        raise TypeError("len() cannot ask the cluster: call records() and count them")

    def __bool__(self) -> NoReturn:
        raise TypeError("bool() cannot ask the cluster: call records()")
