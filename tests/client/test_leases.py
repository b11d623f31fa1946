"""Leases that clients of a node renew: what they hold is theirs through any node, and ends when they stop."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet.defer import CancelledError, Deferred

from coord import Coordinator, EventMap, HoldLost, InvalidInput, InvalidName, InvalidTime, Kind, WrongKind
from coord.client.leases import ClientLease, Granted, LeaseOver, NotGranted, Recovering, slots_of
from support.cluster import Cluster, Seen
from support.waiting import eventually, turn, until

QUICK = {"heartbeat": 0.1, "lease": 0.4, "grace": 0.3}
"""Times of a map whose dead are soon gone."""


class Client:
    """A client of some gateways, with one lease in the map ``m``."""

    def __init__(self, *gateways: Coordinator, caller: str = "ci", name: str | None = None) -> None:
        self.name = name or uuid4().hex
        self._gateways = gateways
        self._caller = caller

    def at(self, number: int = 0) -> ClientLease:
        """Return the lease, as one of the gateways serves it."""
        return ClientLease(self._gateways[number], "m", self._caller, self.name, f"web.{self._caller}")

    def lock(self, key: str = "k", number: int = 0, **options: Any) -> Deferred[Granted]:
        """Ask for a lock."""
        return Deferred.fromCoroutine(self.at(number).lock([key], **options))


async def _gateways(cluster: Cluster, **options: Any) -> tuple[Coordinator, Coordinator, EventMap]:
    """Return two gateways, and the map as another node has it."""
    first, second = await cluster.linked("g1", **options), await cluster.linked("g2", **options)
    return first, second, await cluster.map("other", **options)


async def _recover(cluster: Cluster, events: EventMap, *lost: bytes) -> None:
    """Begin a recovery, as after a failover that lost these fields, though the links stay."""
    script = """
        for i = 1, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
        local clock = redis.call('HGET', KEYS[1], '\\0clock')
        redis.call('HSET', KEYS[1], '\\0clock', (string.gsub(clock, '%w+ %w+$', 'otherprocess otherdata')))
    """
    await cluster.server.command("EVAL", script, 1, events._map.names.records, *lost)


async def test_l1_a_hold_is_anybodys_to_renew(cluster: Cluster) -> None:
    """L1: two gateways renew one lease in turn; nothing blinks, and what is withdrawn at one is gone at the other."""
    one, two, events = await _gateways(cluster, **QUICK)
    client = Client(one, two)
    held = await client.at(0).hold("k", 1)
    assert held.record is not None
    assert (held.first, held.number, held.owner, held.ttl) == (True, 1, True, 0.4)
    assert (held.record.value, held.record.node, held.record.held) == (1, "web.ci", True)
    for number in range(8):
        renewed = await client.at(number % 2).renew()
        assert [tuple(each) for each in renewed.holds] == [("k", False, True, None, 1, False)]
        await turn(0.15)
    again = await client.at(1).hold("k", 1)
    assert (again.first, again.number, again.record) == (False, 1, held.record)
    said = await client.at(1).hold("k", 2)
    assert said.record is not None
    assert (said.first, said.record.value, said.record.latched_at) == (True, 2, held.record.revision)
    applied = await client.at(1).withdraw(["k"])
    assert applied is not None
    assert applied.first
    assert await client.at(0).holds() == []
    record = await events.record("k")
    assert record is not None
    assert record.kind is Kind.WITHDRAWN


async def test_l1_they_hold_beside_nodes(cluster: Cluster) -> None:
    """L1: a node and two clients hold a key, in the order in which they came; two clients of one name are two."""
    one, _, events = await _gateways(cluster)
    ann, bob = Client(one, caller="ann", name="x" * 16), Client(one, caller="bob", name="x" * 16)
    await ann.at().hold("k", "ann")
    hold = await events.hold("k", "node")
    held = await bob.at().hold("k", "bob")
    assert held.record is not None
    assert (held.first, held.number, held.owner, held.record.value) == (False, 3, False, "ann")
    number, holders = await events.holders("k")
    assert (number, [holder.node for holder in holders]) == (3, ["web.ann", "other", "web.bob"])
    await ann.at().withdraw(["k"])
    assert (await bob.at().holds())[0].number == 2
    await hold.withdraw()
    assert await bob.at().withdraw_all() == 1
    assert await bob.at().withdraw_all() == 0
    assert (await events.holders("k"))[0] == 0


async def test_l2_who_stops_renewing_is_gone(cluster: Cluster) -> None:
    """L2, L3: its events expire, its lock goes to the next, and nothing revives the lease."""
    one, two, events = await _gateways(cluster, **QUICK)
    client = Client(one, two)
    await client.at().hold("event")
    granted = await client.lock()
    gone, lock = Seen(events.gone("event")), Seen(events.lock("k"))
    await until(lambda: gone.count == lock.count == 1)
    assert gone.values[0].kind is Kind.EXPIRED
    assert lock.values[0].token > granted.token
    for number in (0, 1):
        with pytest.raises(LeaseOver):
            await client.at(number).renew()
        with pytest.raises(HoldLost):
            await client.lock(number=number, token=granted.token)
    await lock.values[0].release()


async def test_l5_a_lock_is_one_clients(cluster: Cluster) -> None:
    """L5, L8: another client of the same name gets it next, under a higher token; who asks again, the same one."""
    one, two, events = await _gateways(cluster)
    ann, bob = Client(one, two, caller="ann", name="x" * 16), Client(one, two, caller="bob", name="x" * 16)
    granted = await ann.lock(value=1)
    record = await events.record("k")
    assert record is not None
    assert (granted.record, granted.token, granted.ttl) == (record, record.token, 20.0)
    assert 0 <= granted.waited < 1
    for number in (0, 1):
        # Its answer was lost, with the gateway or without.
        assert (await ann.lock(number=number)).token == granted.token
        assert (await ann.lock(number=number, token=granted.token)).token == granted.token
        with pytest.raises(NotGranted, match=r"web\.ann has it") as refused:
            await bob.lock(number=number)
        assert refused.value.number == 0
    assert (await events.holders("k"))[0] == 1
    with pytest.raises(HoldLost):
        await bob.lock(token=granted.token)
    with pytest.raises(HoldLost):
        await ann.lock(token=f"{10**15}.{7:016}")
    waiting = Seen(bob.lock(wait=10.0, number=1))
    await eventually(_holders(events, 2), "there are 2 holders")
    await ann.at(1).withdraw(["k"])
    await until(lambda: waiting.count == 1)
    assert waiting.values[0].token > granted.token
    with pytest.raises(HoldLost):
        await ann.lock(token=granted.token)
    await bob.at().withdraw(["k"])
    assert (await events.holders("k"))[0] == 0


def _holders(events: EventMap, number: int, key: str = "k") -> Any:
    async def as_many() -> bool:
        return (await events.holders(key))[0] == number

    return as_many


async def test_l9_who_waits_keeps_its_place(cluster: Cluster) -> None:
    """L9: in the order of the first requests, over time-outs, at any gateway; a node waits among clients."""
    one, two, events = await _gateways(cluster)
    owner, first, third = (Client(one, two) for _ in range(3))
    await owner.lock()
    with pytest.raises(NotGranted) as refused:
        await first.lock(wait=0.05)
    assert (refused.value.number, refused.value.node) == (2, "web.ci")
    second = Seen(events.lock("k"))
    await eventually(_holders(events, 3), "there are 3 holders")
    with pytest.raises(NotGranted) as refused:
        await third.lock(wait=0.05, number=1)
    assert refused.value.number == 4
    with pytest.raises(NotGranted) as refused:
        await first.lock(number=1)
    assert refused.value.number == 2
    assert [tuple(each) for each in (await first.at(1).renew()).holds] == [("k", True, False, None, 2, False)]
    waiting = Seen(first.lock(wait=5.0, number=1))
    await owner.at().withdraw(["k"])
    await until(lambda: waiting.count == 1)
    await first.at().withdraw(["k"])
    await until(lambda: second.count == 1)
    await third.at().withdraw(["k"])
    await second.values[0].release()
    assert (await events.holders("k"))[0] == 0


async def test_who_waits_ends_with_what_it_wanted(cluster: Cluster) -> None:
    """A request that waits is over when its place is given up at another gateway, or its client has gone."""
    one, two, events = await _gateways(cluster)
    owner, other = Client(one, two), Client(one, two)
    await owner.lock()
    waiting = Seen(other.lock(wait=10.0))
    await eventually(_holders(events, 2), "there are 2 holders")
    await other.at(1).withdraw(["k"])
    gone = other.lock(wait=10.0)
    asked = Seen(gone)
    await eventually(_holders(events, 2), "there are 2 holders")
    gone.cancel()
    assert isinstance(asked.errors[0], CancelledError)
    await other.at(1).withdraw(["k"])
    await owner.at(1).withdraw(["k"])
    await until(lambda: waiting.count == 1)
    assert isinstance(waiting.errors[0], HoldLost)
    assert (await events.holders("k"))[0] == 0


async def test_a_request_whose_client_has_gone_is_not_sent(cluster: Cluster) -> None:
    """Before it is sent, nothing is held; nobody holds what nobody wants."""
    one, _, events = await _gateways(cluster)
    client = Client(one)
    await client.at().hold("first")
    for ask in (client.at().hold("k"), client.at().lock(["k"]), client.at().lock(["k"], wait=1.0)):
        asked = Deferred.fromCoroutine(ask)
        seen = Seen(asked)
        asked.cancel()
        assert isinstance(seen.errors[0], CancelledError)
    # Also if its lease was renewed, and only the call is still to be sent.
    lease = client.at()
    renewal = await lease._leases.renew(lease._map, lease._name, None, makes=False)
    (place,) = lease._no_places([b"k"])
    call = lease._leases.hold(lease._map, place, renewal, b"1", 1, "web.ci")
    seen = Seen(call)
    call.cancel()
    assert isinstance(seen.errors[0], CancelledError)
    await client.at().renew()
    assert [each.key for each in await client.at().holds()] == ["first"]
    await client.at().withdraw_all()
    assert (await events.holders("k"))[0] == 0


async def test_l6_a_recovery(cluster: Cluster) -> None:
    """L1, L6: who asks again in a recovery keeps what it has, with its token; nobody else is granted anything."""
    one, two, events = await _gateways(cluster, **QUICK)
    client, other, silent = Client(one, two), Client(one, two), Client(one)
    await client.at().hold("event")
    await silent.at().hold("silent")
    granted = await client.lock()
    await _recover(cluster, events)
    with pytest.raises(LeaseOver):
        await client.at().renew()
    held = await client.at(1).hold("event")
    assert (held.first, held.owner) == (False, True)
    kept = await client.lock(number=1, token=granted.token)
    assert (kept.token, kept.record) == (granted.token, granted.record)
    with pytest.raises(NotGranted) as refused:
        await other.lock()
    assert type(refused.value) is NotGranted
    await client.at().withdraw(["k"])
    with pytest.raises(Recovering):
        await other.lock(number=1)
    with pytest.raises(Recovering):
        await other.lock(wait=0.05)
    gone = Seen(events.gone("silent"))
    tokens: list[str] = []
    while not (tokens and gone.count):
        await client.at(1).renew()
        with suppress(Recovering):
            tokens.append((await other.lock(wait=0.2)).token)
    assert tokens[0] > granted.token
    assert gone.values[0].kind is Kind.EXPIRED
    assert [each.key for each in await client.at().holds()] == ["event"]
    await other.at().withdraw_all()


async def test_l6_a_token_that_was_made_up_grants_nothing(cluster: Cluster) -> None:
    """L6, L8: not even in a recovery, in which a node would be believed; nor does one of a grant that was lost."""
    one, _, events = await _gateways(cluster)
    client, forger = Client(one), Client(one)
    granted = await client.lock()
    await _recover(cluster, events)
    for token in ("9" * 16 + "." + "9" * 16, granted.token):
        with pytest.raises(HoldLost):
            await forger.lock(token=token)
        with pytest.raises(HoldLost):
            await forger.lock(token=token, wait=0.05)
    await _recover(cluster, events, b"k")
    with pytest.raises(HoldLost):
        await client.lock(token=granted.token)
    assert (await events.holders("k"))[0] == 1
    await client.at().withdraw(["k"])


async def test_l6_who_does_not_know_its_grant_asks_again_after_the_recovery(cluster: Cluster) -> None:
    """L6: an owner whose answer was lost may have lost the lock, too; it is first in the queue."""
    one, _, events = await _gateways(cluster, **QUICK)
    client = Client(one)
    granted = await client.lock()
    await _recover(cluster, events)
    with pytest.raises(Recovering) as refused:
        await client.lock(wait=0.01)
    assert refused.value.number == 1
    tokens: list[str] = []
    while not tokens:
        with suppress(Recovering):
            tokens.append((await client.lock(wait=0.2)).token)
    assert tokens[0] > granted.token
    await client.at().withdraw(["k"])


async def test_an_owner_that_was_evicted_loses_its_lock(cluster: Cluster) -> None:
    """L5: its renewals say so, and the lock is given on once it cannot take it for its own any more."""
    one, _, events = await _gateways(cluster, **QUICK)
    client, other = Client(one), Client(one)
    granted = await client.lock()
    kept = await client.lock("kept")
    await events.reset("k", evict=True)
    with pytest.raises(HoldLost):
        await client.lock(token=granted.token)
    with pytest.raises(HoldLost):
        await client.lock()
    shown = {each.key: (each.owner, each.lost) for each in (await client.at().renew()).holds}
    assert shown == {"k": (True, True), "kept": (True, False)}
    waiting = Seen(other.lock(wait=5.0))
    while not waiting.count:
        assert (await client.lock("kept", token=kept.token)).token == kept.token
        await turn(0.05)
    assert waiting.values or isinstance(waiting.errors[0], NotGranted)
    await other.at().withdraw(["k"])
    await client.at().withdraw_all()


@pytest.mark.servers("memory")
async def test_l5_an_eviction_is_of_one_grant(cluster: Cluster) -> None:
    """L5: who released the lock, was granted it again and is evicted again, is not cut short for the first eviction."""
    one, _, events = await _gateways(cluster)
    client, other = Client(one), Client(one)
    evicted: dict[Any, Any] = next(iter(one._sessions.every)).leases._evicted
    await client.lock()
    await events.reset("k", evict=True)
    await client.at().renew()
    (first,) = evicted.values()
    await client.at().withdraw(["k"])
    again = await client.lock()
    await events.reset("k", evict=True)
    first.reset(0)
    await until(lambda: not first.active())
    with pytest.raises(NotGranted):
        await other.lock()
    (kept,) = await client.at().holds()
    assert (kept.token, kept.lost) == (again.token, True)
    with pytest.raises(HoldLost):
        await client.lock(token=again.token)
    (second,) = evicted.values()
    second.reset(0)
    assert (await other.lock(wait=5.0)).token > again.token
    await other.at().withdraw(["k"])


@pytest.mark.servers("memory")
async def test_l5_a_late_release_is_of_one_grant(cluster: Cluster) -> None:
    """L5: the client releases the lock and is granted it again just before its gateway releases it for the client."""
    one, _, events = await _gateways(cluster)
    client = Client(one)
    leases = next(iter(one._sessions.every)).leases
    is_evicted = leases.places.is_evicted
    again: list[Granted] = []

    async def late(*place: Any) -> bool:
        leases.places.is_evicted = is_evicted  # type: ignore[method-assign]
        evicted = await is_evicted(*place)
        await client.at().withdraw(["k"])
        again.append(await client.lock())
        return evicted

    await client.lock()
    await events.reset("k", evict=True)
    await client.at().renew()
    leases.places.is_evicted = late  # type: ignore[method-assign,assignment]
    next(iter(leases._evicted.values())).reset(0)
    await until(lambda: again)
    await turn(0.05)
    (kept,) = await client.at().holds()
    assert (kept.owner, kept.token, kept.lost) == (True, again[0].token, False)
    await client.at().withdraw(["k"])


async def test_the_times_are_those_of_the_map(cluster: Cluster) -> None:
    """Without a time of its own a lease has that of the map; another one is refused, and says what it is."""
    one, two, events = await _gateways(cluster)
    hold = await events.hold("k")
    client = Client(one, two)
    with pytest.raises(InvalidTime, match="20 s"):
        await client.at().hold("k", ttl=30)
    with pytest.raises(InvalidTime, match="from 10 to 60"):
        await client.at().hold("k", ttl=61)
    assert (await client.at().hold("k")).ttl == 20.0
    await hold.withdraw()
    await client.at().withdraw_all()
    other = ClientLease(one, "n", "ci", "a" * 16, "web.ci")
    assert (await other.hold("k", ttl=45)).ttl == 45.0
    there = ClientLease(two, "n", "ci", "a" * 16, "web.ci")
    assert (await there.renew()).ttl == 45.0
    assert (await there.lock(["l"])).ttl == 45.0
    assert await there.withdraw_all() == 2


async def test_a_semaphore(cluster: Cluster) -> None:
    """One of the slots, the same one if it is asked for again; who waits is in no queue, and takes what is free."""
    one, two, events = await _gateways(cluster)
    slots = slots_of("gpu", 2)
    clients = [Client(one, two) for _ in range(4)]
    first = await clients[0].at(0).lock(slots)
    second = await clients[1].at(1).lock(slots)
    assert sorted([first.record.key, second.record.key]) == slots
    assert (await clients[0].at(1).lock(slots)).token == first.token
    assert (await clients[0].at(1).lock(slots, token=first.token)).record == first.record
    with pytest.raises(NotGranted):
        await clients[2].at(0).lock(slots)
    waiting = [Seen(Deferred.fromCoroutine(client.at(1).lock(slots, wait=10.0))) for client in clients[2:]]
    await until(lambda: two.statistics().waiters == 4)
    assert [(await events.holders(slot))[0] for slot in slots] == [1, 1]
    await clients[1].at(0).withdraw(slots)
    await until(lambda: sum(seen.count for seen in waiting) == 1)
    await clients[0].at(0).withdraw(slots)
    await until(lambda: all(seen.count == 1 for seen in waiting))
    granted = [seen.values[0].record.key for seen in waiting]
    assert sorted(granted) == slots
    assert [(await events.holders(slot))[0] for slot in slots] == [1, 1]
    for client in clients:
        await client.at().withdraw_all()


async def test_what_is_no_lock_is_refused(cluster: Cluster) -> None:
    """Events and counters are not locked, locks not held; names and tokens have a form. Nothing is left of that."""
    one, _, events = await _gateways(cluster)
    client = Client(one)
    await events.fire("event")
    await events.count("counter")
    for key in ("event", "counter"):
        for wait in (0.0, 0.05):
            with pytest.raises(WrongKind):
                await client.lock(key, wait=wait)
    with pytest.raises(WrongKind):
        await client.at().hold("counter")
    await client.lock("lock")
    with pytest.raises(WrongKind):
        await Client(one).at().hold("lock")
    for name in ("short", "x" * 65, "with a blank in it", "ä" * 20):
        with pytest.raises(InvalidName):
            Client(one, name=name).at()
    for token in ("", "1.2", "1" * 33, f"{'1' * 16}.{'x' * 16}"):
        with pytest.raises(InvalidInput):
            await client.lock("lock", token=token)
    with pytest.raises(InvalidInput):
        slots_of("k", 0)
    await client.at().withdraw_all()
    assert await client.at().holds() == []
