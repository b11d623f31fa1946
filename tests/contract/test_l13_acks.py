"""L13 acks are of handlers: a name counts once each living process of that name has acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults

import coord
from coord import (
    Acks,
    Closed,
    EventMap,
    InvalidInput,
    InvalidName,
    InvalidTime,
    LinkState,
    Record,
    Unacknowledged,
    Watch,
)
from coord.client.acks import _AckWait
from coord.link.one_shot import Waiters
from support.cluster import Cluster, Seen, failure_of, latched
from support.waiting import eventually, turn, until

QUICK = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
"""Times of members whose dead are soon gone."""


async def _fired(events: EventMap, key: str = "k") -> Record:
    record = (await events.fire(key, "v7")).record
    assert record is not None
    return record


async def _member(cluster: Cluster, name: str, **options: Any) -> EventMap:
    """Return the map of a node that has joined."""
    events = await cluster.map(name, **options)
    await cluster.of(events).join()
    return events


def _kill(cluster: Cluster, events: EventMap) -> None:
    """End a node as kill -9 would: nothing is withdrawn."""
    for session in cluster.of(events)._sessions.every:
        session.holds._maps.clear()
        session.link.abandon("killed")


async def _looked(events: EventMap) -> None:
    """Return once what waits for acknowledgements on this node has asked for all that it has to ask.

    It asks one thing after the other, on the same connections: not more often than this does.
    """
    for _ in range(12):
        await turn()
        await events.record("another")


async def test_l13_an_ack_is_what_a_handler_sends(cluster: Cluster) -> None:
    """To be woken is none; who waits is told by whom, whenever they began to wait."""
    here, n1, n2 = [await cluster.map(name) for name in ("here", "n1", "n2")]
    handled = Seen(n1["k"], n2["k"])
    record = await _fired(here)
    early = Seen(here.acked(record, ["n1", "n2"]), here.acked(record, 2))
    await until(lambda: handled.count == 2)
    await n1.ack(record)
    await _looked(here)
    assert early.count == 0
    await n2.ack(record.revision)
    await until(lambda: early.count == 2)
    both = Acks(("n1", "n2"), (), ())
    assert early.values == [both, both]
    assert await n1.acked(str(record.revision), ["n2", "n1", "n2"]) == both
    assert await n1.acked(record, 1) == both
    assert await n1.acked(record, iter(["n2"])) == Acks(("n2",), (), ())
    await n2.ack(record)
    assert await here.acked(record, 2) == both
    assert (await here.records()).records == (record,)


async def test_l13_each_change_has_its_own(cluster: Cluster) -> None:
    """Of a key that is fired again, a pulse, and of another map with the same key."""
    here = await cluster.map("here")
    other = cluster.of(here).events("other")
    first = await _fired(here)
    await here.ack(first)
    await here.reset("k")
    changes = [await _fired(here), (await here.pulse("bell")).record, await _fired(other)]
    for events, change in zip((here, here, other), changes, strict=True):
        assert change is not None
        with pytest.raises(
            Unacknowledged, match=rf"^{change.map}/{change.key}: not acknowledged within 0.2 s; missing: here"
        ):
            await events.acked(change, ["here"], timeout=0.2)
        await events.ack(change)
        assert (await events.acked(change, ["here"])).names == ("here",)


async def test_l13_missing_ones_are_named(cluster: Cluster) -> None:
    """In the error, which is a time-out of the wait; nothing is left behind."""
    here = await cluster.map("here")
    record = await _fired(here)
    await here.ack(record)
    with pytest.raises(Unacknowledged) as raised:
        await here.acked(record, [f"n{number:02}" for number in range(12)] + ["here"], timeout=1)
    error = raised.value
    assert isinstance(error, coord.TimedOut)
    assert (error.names, len(error.missing), error.left) == (("here",), 12, ())
    assert str(error).endswith("missing: n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 2 more")
    with pytest.raises(Unacknowledged, match=r"^m/k: acknowledged by 1 of 2 names only within 1 s$"):
        await here.acked(record, 2, timeout=1)


async def test_l13_members_are_those_after_the_fire(cluster: Cluster) -> None:
    """A node that joins later is not waited for, nor is what somebody fired under a name."""
    here = await cluster.map("here")
    n1, n2 = [await _member(cluster, name) for name in ("n1", "n2")]
    await cluster.of(here).members.fire("ghost")
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await n1.ack(record)
    await _looked(here)
    await _member(cluster, "n3")
    await _looked(here)
    assert waiting.count == 0
    await n2.ack(record)
    await until(lambda: waiting.values == [Acks(("n1", "n2"), (), ())])


async def test_l13_a_member_behind_what_was_fired(cluster: Cluster) -> None:
    """A name in the map of members that somebody has fired is still a member's if it is held."""
    here = await cluster.map("here")
    await cluster.of(here).members.fire("n1")
    n1 = await _member(cluster, "n1")
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await _looked(here)
    assert waiting.count == 0
    await n1.ack(record)
    await until(lambda: waiting.values == [Acks(("n1",), (), ())])


async def test_l13_without_members_nobody_acknowledges(cluster: Cluster) -> None:
    """At once; also if the last one has left before."""
    here = await cluster.map("here")
    record = await _fired(here)
    await here.ack(record)
    async with cluster.of(here).join():
        pass
    with pytest.raises(Unacknowledged, match=r"^m/k: not acknowledged: there are no members$"):
        await here.acked(record, coord.MEMBERS)


async def test_l13_each_process_of_a_name(cluster: Cluster) -> None:
    """The acknowledgement of one does not hide that another's is missing; nor does one that is no member."""
    here = await cluster.map("here", heartbeat=0.1)
    first, second = [await _member(cluster, "host") for _ in range(2)]
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS), here.acked(record, ["host"]), here.acked(record, 1))
    await first.ack(record)
    await (await cluster.map("host")).ack(record)
    await _looked(here)
    assert waiting.count == 0
    with pytest.raises(Unacknowledged) as raised:
        await here.acked(record, 1, timeout=0.2)
    assert raised.value.missing == ("host",)
    await second.ack(record)
    await until(lambda: waiting.count == 3)
    assert waiting.values == [Acks(("host",), (), ())] * 3


async def test_l13_a_process_of_a_name_leaves(cluster: Cluster) -> None:
    """Without a change of the members, as another of its name has the record: the next heartbeat notices."""
    here = await cluster.map("here", heartbeat=0.1)
    first, second = [await _member(cluster, "host") for _ in range(2)]
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await second.ack(record)
    await _looked(here)
    assert waiting.count == 0
    await cluster.of(first).close()
    await until(lambda: waiting.values == [Acks(("host",), (), ())])


@pytest.mark.servers("memory")
async def test_l13_an_answer_is_as_of_its_question(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has joined since, before the other acknowledged, is waited for."""
    living, answers = _AckWait._living, Waiters[None]()

    async def slowly(self: _AckWait, name: str) -> frozenset[str]:
        found = await living(self, name)
        await answers.wait()
        return found

    here, first = await cluster.map("here", heartbeat=30), await _member(cluster, "host")
    record = await _fired(here)
    monkeypatch.setattr(_AckWait, "_living", slowly)
    waiting = Seen(here.acked(record, ["host"]))
    await until(lambda: len(answers) == 1)
    second = await _member(cluster, "host")
    await first.ack(record)
    await _looked(here)
    monkeypatch.undo()
    answers.fire(None)
    await _looked(here)
    assert waiting.count == 0
    await second.ack(record)
    await until(lambda: waiting.values == [Acks(("host",), (), ())])


@pytest.mark.parametrize("by", [coord.MEMBERS, ["n1", "n2"]])
async def test_l13_who_leaves_or_dies_is_not_waited_for(cluster: Cluster, by: Any) -> None:
    """And is named; who acknowledged before is counted."""
    here = await cluster.map("here", **QUICK)
    n1, n2 = [await _member(cluster, name, **QUICK) for name in ("n1", "n2")]
    record = await _fired(here)
    waiting = Seen(here.acked(record, by))
    await _looked(here)
    await n1.ack(record)
    await cluster.of(n1).close()
    await _looked(here)
    assert waiting.count == 0
    _kill(cluster, n2)
    await until(lambda: waiting.values == [Acks(("n1",), (), ("n2",))])


async def test_l13_all_have_left(cluster: Cluster) -> None:
    """Then nobody has acknowledged, and the wait ends with that."""
    here = await cluster.map("here")
    n1 = await _member(cluster, "n1")
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await _looked(here)
    await cluster.of(n1).close()
    await until(lambda: waiting.count == 1)
    error = waiting.errors[0]
    assert isinstance(error, Unacknowledged)
    assert str(error) == "m/k: not acknowledged, and all have left; left: n1"
    assert (error.names, error.missing, error.left) == ((), (), ("n1",))


@pytest.mark.servers("memory")
async def test_l13_who_leaves_is_asked_once_more(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its acknowledgement counts, though its leaving is known first."""
    feed = _AckWait._feed

    def deaf(self: _AckWait, changes: Watch, take: Callable[[Record], None]) -> Deferred[None]:
        return Deferred().addErrback(lambda _: None) if take == self._take_ack else feed(self, changes, take)

    monkeypatch.setattr(_AckWait, "_feed", deaf)
    here = await cluster.map("here")
    n1 = await _member(cluster, "n1")
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await _looked(here)
    await n1.ack(record)
    await _looked(here)
    assert waiting.count == 0
    await cluster.of(n1).close()
    await until(lambda: waiting.values == [Acks(("n1",), (), ())])


async def test_l13_who_was_never_a_member_is_waited_for(cluster: Cluster) -> None:
    """Until the time-out."""
    here = await cluster.map("here")
    await _member(cluster, "n1")
    record = await _fired(here)
    with pytest.raises(Unacknowledged) as raised:
        await here.acked(record, ["n9"], timeout=0.3)
    assert (raised.value.missing, raised.value.left) == (("n9",), ())


async def test_l13_who_was_a_member_for_a_moment_has_left(cluster: Cluster) -> None:
    """It is not waited for, although nobody asked for the members while it was one."""
    here, gate = await cluster.gated("here", heartbeat=30)
    n1 = await cluster.map("n1")
    record = await _fired(here)
    waiting = Seen(here.acked(record, ["n1"]))
    await _looked(here)
    gate.stall()
    async with cluster.of(n1).join():
        pass
    gate.resume()
    await until(lambda: waiting.count == 1)
    error = waiting.errors[0]
    assert isinstance(error, Unacknowledged)
    assert (error.missing, error.left) == ((), ("n1",))


@pytest.mark.servers("memory")
@pytest.mark.parametrize("how", ["leaves", "dies", "is evicted"])
async def test_l13_who_was_a_member_when_the_wait_began_has_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Though its end, however it came, is all that the history of the members tells of it."""
    here = await cluster.map("here", **QUICK)
    n1 = await _member(cluster, "n1", **QUICK)
    record = await _fired(here)
    members = cluster.of(here).members
    look = _AckWait._look

    async def nobody() -> bool:
        return not await latched(members, "n1")

    async def late(self: _AckWait) -> None:
        if how == "leaves":
            await cluster.of(n1).close()
        elif how == "dies":
            _kill(cluster, n1)
        else:
            await members.reset("n1", evict=True)
        await eventually(nobody, "n1 is no member")
        await look(self)

    monkeypatch.setattr(_AckWait, "_look", late)
    waiting = Seen(here.acked(record, ["n1"]))
    await until(lambda: waiting.count == 1)
    error = waiting.errors[0]
    assert isinstance(error, Unacknowledged)
    assert (error.missing, error.left) == ((), ("n1",))


async def test_l13_through_a_lost_link(cluster: Cluster) -> None:
    """What was acknowledged, and who has left, while the link was down is noticed on the next."""
    cluster.reconnect_quickly()
    here, gate = await cluster.gated("here", heartbeat=30)
    n1, n2, n3 = [await _member(cluster, name) for name in ("n1", "n2", "n3")]
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await n1.ack(record)
    await _looked(here)
    gate.shut()
    await cluster.state(cluster.of(here), LinkState.SUSPENDED)
    with pytest.raises(Unacknowledged) as raised:
        await here.acked(record, ["n3"], timeout=0.02)
    assert raised.value.missing == ("n3",)
    await n2.ack(record)
    await cluster.of(n2).close()
    await cluster.of(n3).close()
    gate.open()
    await until(lambda: waiting.values == [Acks(("n1", "n2"), (), ("n3",))])


async def test_l13_through_a_lost_answer(cluster: Cluster) -> None:
    """F2: an acknowledgement is repeated on the next link, with the node's name and incarnation."""
    here = await cluster.map("here")
    n1, gate = await cluster.gated("n1", heartbeat=30)
    record = await _fired(here)
    gate.stall()
    acking = n1.ack(record)
    assert (await here.acked(record, ["n1"])).names == ("n1",)
    gate.open()
    gate.cut()
    await acking


@pytest.mark.unrestricted
async def test_l13_other_data(cluster: Cluster) -> None:
    """After a flush, what was known stands, and what is acknowledged from then on counts."""
    here = await cluster.map("here", heartbeat=0.1)
    n1, n2 = await cluster.map("n1"), await cluster.map("n2")
    record = await _fired(here)
    await n1.ack(record)
    waiting = Seen(here.acked(record, ["n1", "n2"]))
    await _looked(here)
    await cluster.server.flush()
    await n2.ack(record)
    await until(lambda: waiting.values == [Acks(("n1", "n2"), (), ())])


@pytest.mark.unrestricted
async def test_l13_a_gap_in_the_history(cluster: Cluster) -> None:
    """It looks again; the members are those of before."""
    here, gate = await cluster.gated("here", heartbeat=30)
    n1, n2, n3 = [await _member(cluster, name) for name in ("n1", "n2", "n3")]
    record = await _fired(here)
    waiting = Seen(here.acked(record, coord.MEMBERS))
    await _looked(here)
    gate.stall()
    await n1.ack(record)
    await cluster.of(n1).execute("DEL", "coord:{default/m}/acks:log", at="m")
    await n2.ack(record)
    await _member(cluster, "n4")
    gate.resume()
    await _looked(here)
    assert waiting.count == 0
    await n3.ack(record)
    await until(lambda: waiting.values == [Acks(("n1", "n2", "n3"), (), ())])


async def test_l13_many_at_once(cluster: Cluster) -> None:
    """Acknowledgements that come together are asked for together."""
    here = await cluster.map("here")
    record = await _fired(here)
    nodes = [await cluster.map(f"n{number}") for number in range(10)]
    waiting = here.acked(record, 10)
    await gatherResults([node.ack(record) for node in nodes])
    assert len((await waiting).names) == 10


async def test_l13_cancelled_and_closed(cluster: Cluster) -> None:
    """W5, W6: nothing is left behind, and nothing is logged."""
    here = await cluster.map("here")
    record = await _fired(here)
    waiting = here.acked(record, ["n1"])
    await _looked(here)
    assert cluster.of(here).statistics().subscriptions == 2
    waiting.cancel()
    assert isinstance(failure_of(waiting), CancelledError)
    await until(lambda: cluster.of(here).statistics().subscriptions == 0)
    waiting = here.acked(record, 1)
    never_seen = here.acked(record, 1)
    await cluster.of(here).close()
    assert isinstance(failure_of(waiting), Closed)
    assert never_seen.called
    assert isinstance(failure_of(here.acked(record, 1)), Closed)
    assert isinstance(failure_of(here.ack(record)), Closed)


async def test_l13_acks_are_forgotten(cluster: Cluster) -> None:
    """With the retention, as the records of pending keys; no listing of maps shows where they are."""
    here = await cluster.map("here", retention=1.0, heartbeat=0.1)
    record = await _fired(here)
    await here.ack(record)
    acks = EventMap(here._session, "m/acks")
    assert len((await acks.records()).records) == 1

    async def forgotten() -> bool:
        return not (await acks.records()).records

    await eventually(forgotten, "it is forgotten")
    with pytest.raises(InvalidName):
        cluster.of(here).events("m/acks")


@pytest.mark.unrestricted
async def test_l13_no_list_of_maps_has_them(cluster: Cluster) -> None:
    """They are no map of the user's."""
    here = await cluster.map("here")
    await here.ack(await _fired(here))
    assert await cluster.of(here).maps() == ("m",)


BAD: dict[str, tuple[type[Exception], str, Callable[[EventMap, Record], Any]]] = {
    "nobody": (InvalidInput, "by: without a name", lambda events, it: events.acked(it, [])),
    "a number below one": (InvalidInput, "by: a whole number from 1", lambda events, it: events.acked(it, 0)),
    "a bool": (InvalidInput, "by: a whole number", lambda events, it: events.acked(it, True)),
    "one string": (InvalidInput, "by: names, a number", lambda events, it: events.acked(it, "n1")),
    "None": (InvalidInput, "by: names, a number", lambda events, it: events.acked(it, None)),  # type: ignore[arg-type]
    "no name": (InvalidName, "node 'a/b'", lambda events, it: events.acked(it, ["n1", "a/b"])),
    "a time": (InvalidTime, "timeout", lambda events, it: events.acked(it, 1, timeout=-1)),
    "no record": (InvalidInput, "revision None", lambda events, _: events.acked(None, 1)),  # type: ignore[arg-type]
    "no revision": (InvalidInput, "revision '7'", lambda events, _: events.ack("7")),
}


@pytest.mark.servers("memory")
@pytest.mark.parametrize("what", sorted(BAD))
async def test_l13_bad_input(cluster: Cluster, what: str) -> None:
    """It raises at the call, before anything is sent."""
    kind, text, call = BAD[what]
    events = await cluster.map()
    record = await _fired(events)
    with pytest.raises(kind, match=text):
        call(events, record)
    assert cluster.of(events).statistics().pending_calls == 0


@pytest.mark.servers("memory")
async def test_l13_nothing_to_acknowledge(cluster: Cluster) -> None:
    """A record of another map, and one of which no handler was told."""
    events = await cluster.map()
    other = cluster.of(events).events("other")
    record = await _fired(events)
    for call in (lambda: other.ack(record), lambda: other.acked(record, 1)):
        with pytest.raises(InvalidInput, match="record: it is one of map m, not of other"):
            call()
    reset = (await events.reset("k")).record
    counted = (await events.count("c")).record
    for pending, kind in ((reset, "reset"), (counted, "counted")):
        assert pending is not None
        with pytest.raises(InvalidInput, match=f"is {kind}: there is nothing to acknowledge"):
            events.ack(pending)
        with pytest.raises(InvalidInput, match="nothing to acknowledge"):
            events.acked(pending, 1)
