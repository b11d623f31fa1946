"""One map of events: what users call ``on_mount``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from coord.client.acks import ack_key, acked, change_of, checked_by
from coord.client.barriers import Barrier
from coord.client.holds import HoldAnswer, Holder, parse_holders
from coord.client.listings import Listings, Pages
from coord.client.locks import Lock, LockAnswer, ask, ask_any
from coord.client.many import AllApplied, Part
from coord.client.waits import CallAnswer, RecordWaiter, Waiter, all_of, any_of, canceller, expiring, joint
from coord.client.watch import Watch
from coord.core.acks import Acks
from coord.core.calls import EVICT, MOVE, TIMED, Call, CallName
from coord.core.conditions import Condition, Ended, Reached
from coord.core.names import acks_of, check_key, check_keys
from coord.core.records import (
    COUNTED,
    EXPIRED,
    FAILED,
    FIRED,
    PULSED,
    RESET,
    Applied,
    Counted,
    Kind,
    Listing,
    Page,
    Record,
    Revision,
    StoredRecord,
    not_a_record,
)
from coord.core.values import Json, encode
from coord.errors import CorruptRecord, InvalidInput, InvalidKey
from coord.link.link import CLOSED
from coord.session.settings import MAX_DEADLINE, MAX_WAIT, MOST_COUNTED, MOST_GOAL, check_seconds, check_whole

if TYPE_CHECKING:
    from coord.session.session import Session

__all__ = ["EventMap"]

_MOST_NEEDED = 1_000_000
_MOST_SLOTS = 1_000


class CallOptions(TypedDict, total=False):
    """The options of a call.

    ``timeout``: its deadline, in seconds. ``replicas``: wait until this many replicas have the call (Redis' ``WAIT``);
    it errbacks `NotReplicated` if they do not have it ``within`` this many seconds (2 by default). ``once``: a name for
    the call, 1 to 512 bytes of UTF-8 without control characters. If any node of the namespace repeats the call under
    the same name within an hour, it is not applied again, and gets the first call's answer. Names are scoped to the
    map; a different call under the same name errbacks `NameReused`.
    """

    timeout: float | None
    replicas: int
    within: float
    once: str | None


class EventMap:
    """A named set of events, shared by every node of a namespace; made by ``Coordinator.events``.

    Bad input raises at once, before anything is sent: `InvalidKey`, `InvalidValue`, `InvalidTime`. Everything raises
    `RuntimeError` in another thread than the reactor's.
    """

    # The principal whose calls these are, and the name of the calling node, if they are not this node's own; see
    # `coord.client.acting`.
    _caller = ""
    _called_by = ""

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self._session = session
        self._map = session.map(name)
        self._thread = session.thread
        self._commands = session.commands
        self._timeout = session.node.settings.timeout
        self._listings = Listings(self._commands, self._map.names)
        self._prefix = self._map.names.prefix
        self._cancelled = canceller(session)

    def __repr__(self) -> str:
        return f"<EventMap {self._session.node.namespace}/{self.name}>"

    # Waiting.

    def __getitem__(self, key: str) -> Deferred[Json]:
        """Return a Deferred of your own for ``key``.

        It is called back with the event's value: at once if this node already knows it, otherwise when any node fires
        or pulses the event. It errbacks `EventFailed` if the event fails, `Closed` when the coordinator is closed, and
        `CorruptRecord` or `AccessDenied` if the key cannot be read. Cancelling it leaves nothing behind.
        """
        if get_ident() != self._thread.ident:
            self._thread.check()
        waiter = Waiter(self._prefix + check_key(key), self._cancelled)
        session = self._session
        if session.link_status.state is CLOSED:
            waiter.give_up(session.link_status.closed_error())
            return waiter
        stored = session.wait(self._map, waiter.channel, waiter)
        if stored is not None:
            waiter.wake(stored, self._map.names)
        return waiter

    def wait(self, key: str, timeout: float | None = None) -> Deferred[Json]:
        """Return the same as ``self[key]``, with a deadline: it errbacks `TimedOut` after ``timeout`` seconds."""
        self._check_wait(timeout)
        return expiring(self[key], timeout, self._session.clock, f"{self.name}/{key}")

    def wait_all(self, keys: Iterable[str], timeout: float | None = None) -> Deferred[dict[str, Json]]:
        """Return ``{key: value}`` once every key has fired. If one fails, it fails too, and cancels the other waits."""
        waiters = self._waiters(keys, timeout)
        return expiring(joint("wait_all", all_of(waiters), self._thread), timeout, self._session.clock, self.name)

    def wait_any(self, keys: Iterable[str], timeout: float | None = None) -> Deferred[tuple[str, Json]]:
        """Return ``(key, value)`` of the first key that fires or fails; the other waits are cancelled."""
        waiters = self._waiters(keys, timeout)
        if not waiters:
            raise InvalidKey("wait_any needs at least one key: without one it would wait forever")
        return expiring(joint("wait_any", any_of(waiters), self._thread), timeout, self._session.clock, self.name)

    def gone(self, key: str, timeout: float | None = None) -> Deferred[Record | None]:
        """Return a Deferred that is called back when the event of ``key`` is over: with the record that ended it.

        If the key is pending, that is at once, with its record (``None`` if it has none). If the event ended and was
        fired anew while this node was disconnected, it is called back, too, with the new record. It errbacks `TimedOut`
        after ``timeout`` seconds, and else as a wait does.
        """
        return self._wait_until(key, Ended(), "the end", timeout)

    def reaches(self, key: str, n: int, timeout: float | None = None) -> Deferred[Record]:
        """Return a Deferred that is called back with the key's record once its count is at least ``n``.

        A reset sets the count to 0. What the count was before, while this node was disconnected, is not seen. It
        errbacks `TimedOut` after ``timeout`` seconds, and else as a wait does.

        :param n: from 1 to 10**15.
        """
        return self._wait_until(key, Reached(check_whole("n", n, MOST_GOAL)), f"a count of {n}", timeout)

    def _wait_until(self, key: str, condition: Condition, what: str, timeout: float | None) -> Deferred[Any]:
        self._thread.check()
        self._check_wait(timeout)
        waiter = RecordWaiter(self._prefix + check_key(key), what, self._cancelled)
        session = self._session
        if session.link_status.state is CLOSED:
            waiter.give_up(session.link_status.closed_error())
        else:
            session.wait_until(self._map, waiter.channel, waiter, condition)
        return expiring(waiter, timeout, session.clock, f"{what} of {self.name}/{key}")

    def armed(self) -> Deferred[None]:
        """Return a Deferred that fires once every wait so far is armed or resolved: none can miss a later fire."""
        self._thread.check()
        return self._session.arming.armed(self._map)

    def _waiters(self, keys: Iterable[str], timeout: float | None) -> dict[str, Deferred[Json]]:
        self._thread.check()
        self._check_wait(timeout)
        return {key: self[key] for key in check_keys(keys)}

    def _check_wait(self, timeout: float | None) -> None:
        if timeout is not None:
            check_seconds("timeout", timeout, most=MAX_WAIT)

    # Calls. Each returns `Applied`, or errbacks. `Unreachable`, `AccessDenied`, `ServerRefused`, `CorruptRecord` and
    # `Closed` mean that it was not applied; `Unconfirmed`, that it may have been, or may yet be; `NotReplicated`, that
    # it was. `CallOptions` describes the options of all of them.

    def fire(
        self, key: str, value: object = True, *, ttl: float | None = None, **options: Unpack[CallOptions]
    ) -> Deferred[Applied]:
        """Fire the event: every waiter of the cluster gets ``value``, and later waits get it at once.

        Of many callers, exactly one is ``first``; the others get the existing record. With ``ttl``, in seconds, the
        event ends by itself that long after the last fire with a TTL, as `Kind` ``expired``. A fire that finds such an
        event makes its end later, never earlier, and no other event ends.
        """
        data = encode(value)
        if ttl is None:
            return self._call(FIRED, key, data, options)
        return self._call(FIRED, key, b"%d\n%b" % (_milliseconds(ttl), data), options, TIMED)

    def fire_all(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        replicas: int = 0,
        within: float = 2.0,
    ) -> Deferred[dict[str, Applied]]:
        """Fire an event for each key, with its value, in one go; return ``{key: Applied}`` once all are answered.

        If a call fails, the others are applied all the same, and it errbacks the first error once all are answered, or
        the first `Unconfirmed` if there is one; a note says how many failed. To repeat them does no harm: an event that
        was fired stays as it is. Cancelling it drops what was not sent yet.
        """
        self._thread.check()
        letter, prefix = (0, b"") if ttl is None else (TIMED, b"%d\n" % _milliseconds(ttl))
        options: CallOptions = {"timeout": timeout, "replicas": replicas, "within": within}
        seconds, replication = _checked(options, self._timeout)
        # A mapping need not be a dict, and another thread may change one: what it holds is looked at once.
        parts = {key: (check_key(key), prefix + encode(value)) for key, value in values.items()}
        session, answer = self._session, AllApplied("fire_all", parts)
        if session.link_status.state is CLOSED:
            answer.errback(session.link_status.closed_error())
            return answer
        deadline, order = session.clock.seconds() + seconds, session.table.order
        for key, (encoded, data) in parts.items():
            call = Call(FIRED, encoded, data, deadline, order(), Part(answer, key), replication, letter=letter)
            call.node = self._called_by
            answer.calls.append(call)
            session.call(self._map, call)
        if not parts:
            answer.end()
        return answer

    def expire(self, key: str, ttl: float, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Have an event that was fired with a TTL end ``ttl`` seconds from now, sooner or later than it would have.

        ``first`` says whether it will. If the key is pending, or its event has no TTL, nothing changes.
        """
        return self._call(EXPIRED, key, b"%d" % _milliseconds(ttl), options, MOVE)

    def fail(self, key: str, reason: object, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Fail the event: every waiter gets `EventFailed` with ``reason``, a JSON value, Failure or exception."""
        if isinstance(reason, Failure):
            reason = reason.value
        if isinstance(reason, BaseException):
            reason = f"{type(reason).__name__}: {reason}"
        return self._call(FAILED, key, encode(reason), options)

    def pulse(self, key: str, value: object = True, **options: Unpack[CallOptions]) -> Deferred[Applied]:
        """Wake every current waiter with ``value``; the key is pending afterwards."""
        return self._call(PULSED, key, encode(value), options)

    def reset(
        self, key: str, revision: Revision | str | None = None, *, evict: bool = False, **options: Unpack[CallOptions]
    ) -> Deferred[Applied]:
        """Make a fired or failed key pending again; with ``revision``, only if that is still its record.

        A key that is held stays latched, unless ``evict``: then all its holds are ended, and the holders
        learn that with their next heartbeat (`Hold.lost`).
        """
        if evict:
            if revision is not None:
                raise InvalidInput("evict ends all holds of a key, whatever its revision: give one of both")
            return self._call(RESET, key, b"-", options, EVICT)
        data = b"" if revision is None else b"%d,%d" % Revision.of(revision)
        return self._call(RESET, key, data, options)

    def count(
        self,
        key: str,
        n: int = 1,
        *,
        goal: int | None = None,
        who: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Deferred[Counted]:
        """Add ``n`` to the counter of ``key``, which begins at 0: exactly once, also if an answer is lost.

        Once the count is at least ``goal``, the key is fired with the count, in the same step; it counts on after that.
        The first goal of a counter stands: another one errbacks `OtherGoal`. The counter is ``reset`` as an event is,
        and until then it is no event, nor is an event a counter: `WrongKind`.

        :param n: from 1 to 10**9.
        :param goal: from 1 to 10**15; later calls need not repeat it.
        :param who: a name that counts once until the counter is reset, 1 to 512 bytes of UTF-8 without control
            characters. If it has counted already, nothing changes, and ``first`` is false.
        """
        check_whole("n", n, MOST_COUNTED)
        aim = 0 if goal is None else check_whole("goal", goal, MOST_GOAL)
        name = b"" if who is None else check_key(who, "who")
        return self._call(COUNTED, key, b"%d,%d,%b" % (n, aim, name), options)  # type: ignore[return-value]

    def _call(self, kind: Kind, key: str, data: bytes, options: CallOptions, letter: int = 0) -> Deferred[Applied]:
        if get_ident() != self._thread.ident:
            self._thread.check()
        session = self._session
        encoded = check_key(key)
        timeout, replication, once = self._timeout, (0, 0), None
        if options:
            timeout, replication = _checked(options, timeout)
            once = options.get("once")
            if once is not None:
                check_key(once, "once")
        if session.link_status.state is CLOSED:
            closed: Deferred[Applied] = Deferred()
            closed.errback(session.link_status.closed_error())
            return closed
        deadline = session.clock.seconds() + timeout
        call = Call(kind, encoded, data, deadline, session.table.order(), None, replication, letter=letter)
        if once is not None:
            call.name = CallName.of(session.node.namespace, self._caller, once, kind, encoded, data)
        if self._called_by:
            call.node = self._called_by
        result = CallAnswer(call)
        call.result = result
        session.call(self._map, call)
        return result

    # Holding.

    def hold(self, key: str, value: object = True, *, need: int = 1, timeout: float | None = None) -> HoldAnswer:
        """Hold the key: its event is latched while anybody holds it, and ends when the last holder withdraws or dies.

        The first holder fires the event with its ``value``. Later ones hold it behind the first: when that leaves, the
        event passes to the next, with its value, and stays latched. What a dead node held ends as `Kind` ``expired``,
        after the lease time and the grace time of the map (`connect`'s ``lease`` and ``grace``). An event that was
        fired is no holder's: who holds its key takes over when it is reset.

        :param need: the event is latched only while at least so many hold the key; all its holders must agree.
        :param timeout: in seconds, as of the calls.
        :returns: a Deferred that is called back with a `Hold`; it can be entered with ``async with``, too. It errbacks
            as a call does; `InvalidInput` if the other holders have another ``need``, `InvalidTime` if they have
            another ``lease`` or ``grace``. Cancelling it withdraws the hold.
        """
        self._thread.check()
        encoded, data = check_key(key), encode(value)
        _check_need("need", need)
        seconds = self._timeout if timeout is None else check_seconds("timeout", timeout, most=MAX_DEADLINE)
        session = self._session
        return HoldAnswer(
            session, key, lambda answer: session.holds.hold(self._map, encoded, data, need, seconds, answer)
        )

    def barrier(self, key: str, parties: int, value: object = True, *, timeout: float | None = None) -> Barrier:
        """Return a context manager whose block runs once ``parties`` have entered it, in the whole cluster.

        Each holds the key with ``need=parties`` from then until the end of its block. Who dies meanwhile is not
        counted. Who comes while enough are inside passes at once, so use another key for each round. Entering raises
        `TimedOut` after ``timeout`` seconds, and else what `hold` errbacks with; nothing is held then.
        """
        self._thread.check()
        check_key(key)
        encode(value)
        _check_need("parties", parties)
        self._check_wait(timeout)
        return Barrier(lambda: self.wait(key, timeout), self.armed, lambda: self.hold(key, value, need=parties))

    def lock(self, key: str, value: object = True, *, timeout: float | None = None) -> LockAnswer:
        """Wait ``timeout`` seconds for the lock of ``key``: at most one `Lock` of it is valid in the whole cluster.

        It is granted in the order of the requests; who dies, or gives up, is skipped. While somebody owns it, ``key``
        is latched with the owner's ``value``. After the server was restarted or has failed over, nothing is granted for
        the lease time and the grace time of the map; who owns a lock keeps it.

        :param timeout: without one, it waits for ever; with 0, it tries once.
        :returns: a Deferred that is called back with a `Lock`; it can be entered with ``async with``, too. It errbacks
            `TimedOut`, `WrongKind` if the key is an event or a counter, and else as `hold` does. Cancelling it gives
            up.
        """
        self._thread.check()
        check_key(key)
        data = encode(value)
        self._check_wait(timeout)
        return LockAnswer(f"lock {self.name}/{key}", ask(self._session, self._map, key, data, timeout))

    def elect(self, key: str, value: object) -> LockAnswer:
        """Stand for election: wait for the lock of ``key``. The grant fires the key with ``value``.

        Who leads does so until it releases the lock, or until `Lock.lost`; then stand again.
        """
        return self.lock(key, value)

    def semaphore(self, key: str, slots: int, value: object = True, *, timeout: float | None = None) -> LockAnswer:
        """Wait for one of the locks ``key/0`` to ``key/N``, of which there are ``slots``: no order among those waiting.

        All have to say the same number of slots. Else it is as `lock`, with a token for each slot.

        :param slots: from 1 to 1,000.
        """
        self._thread.check()
        check_whole("slots", slots, _MOST_SLOTS)
        check_key(f"{key}/{slots - 1}")
        data = encode(value)
        self._check_wait(timeout)
        first = hash(self._session.node.incarnation) % slots
        keys = [f"{key}/{(first + number) % slots}" for number in range(slots)]

        def begin(key: str, timeout: float | None, *, once: bool = False) -> Deferred[Lock]:
            return ask(self._session, self._map, key, data, timeout, once=once)

        asked = ask_any(begin, keys, timeout, self._session.clock.seconds)
        return LockAnswer(f"semaphore {self.name}/{key}", Deferred.fromCoroutine(asked))

    # Acknowledgements.

    def ack(self, record: Record | Revision | str, **options: Unpack[CallOptions]) -> Deferred[None]:
        """Acknowledge a change: call this when your handler has done what the change asks of it.

        It is this process's acknowledgement under its node's name, for `acked`; to repeat it changes nothing. It is
        kept for the retention, an hour by default.

        :param record: a fired, failed or pulsed record of this map, or its revision.
        :returns: a Deferred that is called back once the server has it, and errbacks as a call does.
        """
        self._thread.check()
        node = self._session.node
        key = ack_key(change_of(record, self.name)[0], node.name, node.incarnation)
        # Not kept: who handles a change acknowledges it once.
        return EventMap(self._session, acks_of(self.name)).pulse(key, **options).addCallback(lambda _: None)

    def acked(
        self, record: Record | Revision | str, by: Iterable[str] | int, timeout: float | None = None
    ) -> Deferred[Acks]:
        """Wait until handlers have acknowledged a change with `ack`; return who has.

        A name counts once every living process that is a member under it (`Coordinator.join`) has acknowledged. A name
        without members counts with its first acknowledgement. Who was a member and has left is not waited for.

        :param record: a fired, failed or pulsed record of this map, or its revision.
        :param by: the names of nodes; or how many names, whichever they are; or `coord.MEMBERS`: all that are members
            now.
        :returns: a Deferred that is called back with `Acks`. It errbacks `Unacknowledged` after ``timeout`` seconds,
            and earlier if there are no members, or all have left and nobody has acknowledged; and else as a watch does.
        """
        self._thread.check()
        self._check_wait(timeout)
        return acked(self._session, self.name, change_of(record, self.name), checked_by(by), timeout)

    # Queries.

    def record(self, key: str) -> Deferred[Record | None]:
        """Ask the server for the current record of ``key``; ``None`` if it has none. Leaves nothing behind."""
        self._thread.check()
        encoded = check_key(key)
        return self._commands.with_deadline(Deferred.fromCoroutine(self._record(encoded, key)))

    async def _record(self, encoded: bytes, key: str) -> Record | None:
        names, commands = self._map.names, self._commands
        payload = await commands.retry_while_reconnecting(lambda: commands.read_one(names, encoded), key)
        left = None
        if payload is not None and _parsed(payload, key).perishable:
            look = await commands.retry_while_reconnecting(lambda: commands.look(names, [encoded]), key)
            (payload,), (left,) = look.records, look.left
        if payload is None:
            return None
        try:
            return _parsed(payload, key).record(self.name, key, left)
        except CorruptRecord:
            raise not_a_record(key) from None

    def holders(self, key: str, limit: int = 1_000) -> Deferred[tuple[int, list[Holder]]]:
        """Ask the server who holds ``key``: the number of holders, and at most ``limit`` of them, the oldest first."""
        self._thread.check()
        encoded, names, commands = check_key(key), self._map.names, self._commands
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 10_000:
            raise InvalidInput(f"limit: a whole number from 1 to 10000, not {limit!r}")
        asked = commands.retry_while_reconnecting(lambda: commands.holders(names, encoded, limit), key)
        return commands.with_deadline(Deferred.fromCoroutine(asked)).addCallback(parse_holders)

    def records(self, prefix: str = "") -> Deferred[Listing]:
        """List the records of all keys that begin with ``prefix``, with the revision to resume a watch from.

        The listing is held in memory as a whole, sorted by key; `pages` needs less memory.
        """
        self._thread.check()
        return self._listings.records(prefix)

    def page(self, prefix: str = "", after: str | None = None, limit: int = 500) -> Deferred[Page]:
        """Return one page of this listing: the first, or the one that follows, with ``after`` a page's ``next``.

        A page has up to about ``limit`` records (1 to 100,000) and 1 MiB. It errbacks `ListingLost` if the previous
        page came from another server process: then begin again.
        """
        self._thread.check()
        return self._listings.page(prefix, after, limit)

    def pages(self, prefix: str = "", limit: int = 500) -> Pages:
        """Return an asynchronous iterator of all pages; each is fetched on demand.

        Bad input raises at once; other errors are raised as by `page`.
        """
        self._thread.check()
        return Pages(self.page, prefix, limit)

    def remove_foreign(self) -> Deferred[tuple[str, ...]]:
        """Remove fields that other programs wrote into this map under names that are not valid keys.

        Return these names, escaped. Keys and their records stay, corrupt ones too: `reset` repairs those.
        """
        self._thread.check()
        return self._listings.remove_foreign()

    def subscribers(self, keys: Iterable[str]) -> Deferred[dict[str, int]]:
        """Count, for each key, the nodes that are subscribed to it now (waiting for it, or caching it)."""
        self._thread.check()
        channels = {key: self._map.names.channel(key) for key in check_keys(keys)}
        if not channels:
            return succeed({})
        commands = self._commands
        asked = commands.retry_while_reconnecting(lambda: commands.count_subscribers(channels.values()), self.name)
        counted = commands.with_deadline(Deferred.fromCoroutine(asked))
        return counted.addCallback(lambda counts: dict(zip(channels, counts, strict=True)))

    def watch(self, prefix: str = "", since: str | Revision = "now") -> Watch:
        """Return the ordered history of the keys that begin with ``prefix``, from ``since`` on and then live.

        ``since`` is ``"now"``, ``"start"`` or a `Revision` (the first change shown is the one after it)::

            async with on_mount.watch("tank/", since="start") as changes:
                async for change in changes: ...
        """
        self._thread.check()
        return Watch(self._session, self._map, prefix, since)

    # A query must not create anything, and an operator that would mislead is refused.

    def __setitem__(self, key: str, value: object) -> NoReturn:
        raise TypeError("events are not assigned: call fire(key, value), and reset(key) to re-arm")

    def __delitem__(self, key: str) -> NoReturn:
        raise TypeError("events are not deleted: call reset(key) to make one pending again")

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError("'in' cannot ask the cluster: await record(key), and look at its .latched")

    def __iter__(self) -> NoReturn:
        raise TypeError("iteration cannot ask the cluster: await records()")

    def __len__(self) -> NoReturn:
        raise TypeError("len() cannot ask the cluster: await records() and count them")

    def __bool__(self) -> NoReturn:
        raise TypeError("bool() cannot ask the cluster: await records()")


def _check_need(what: str, need: object) -> None:
    if not isinstance(need, int) or isinstance(need, bool) or not 1 <= need <= _MOST_NEEDED:
        raise InvalidInput(f"{what}: a whole number from 1 to {_MOST_NEEDED}, not {need!r}")


def _parsed(payload: bytes, key: str) -> StoredRecord:
    try:
        return StoredRecord.parse(payload)
    except ValueError:
        raise not_a_record(key) from None


def _milliseconds(ttl: float) -> int:
    """Return a TTL, which is in seconds, in milliseconds. Raise `InvalidTime` if it is no time."""
    return ceil(1000 * check_seconds("ttl", ttl, least=0.001, most=MAX_WAIT))


def _checked(options: CallOptions, default: float) -> tuple[float, tuple[int, int]]:
    """Return a call's deadline in seconds from now, and its replication; raise if they are invalid."""
    unknown = set(options) - CallOptions.__optional_keys__
    if unknown:
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}; options: timeout, replicas, within and once")
    timeout, replicas, within = options.get("timeout"), options.get("replicas", 0), options.get("within", 2.0)
    timeout = default if timeout is None else check_seconds("timeout", timeout, most=MAX_DEADLINE)
    check_seconds("within", within, least=0.001, most=MAX_DEADLINE)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= 1_000:
        raise InvalidInput(f"replicas: a whole number from 0 to 1000, not {replicas!r}")
    if not replicas:
        return timeout, (0, 0)
    return timeout, (replicas, int(within * 1000))
