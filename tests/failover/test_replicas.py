"""F4: acknowledged once the replicas have it, or else `NotReplicated` with the outcome."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from cli.processes import Shell
from coord import Applied, LinkState, NotReplicated
from failover.group import Group
from failover.nodes import witnesses
from failover.pairs import Pair, linked
from failover.processes import ServerProcess
from support.cluster import Seen, failure_of
from support.waiting import eventually, until

pytestmark = pytest.mark.deadline(60)

_RECORDS = "coord:{default/m}"


async def _not_replicated(calling: Deferred[Applied]) -> NotReplicated:
    with pytest.raises(NotReplicated) as raised:
        await calling
    return raised.value


async def _waiting_clients(server: ServerProcess) -> list[str]:
    """Return the ids of the connections that are held up by WAIT."""
    clients: bytes = await server.command("CLIENT", "LIST")
    lines = [dict(word.partition("=")[::2] for word in line.split(" ")) for line in clients.decode().splitlines()]
    return [line["id"] for line in lines if line["cmd"] == "wait" and "b" in line["flags"]]


async def test_acknowledged_means_that_the_replica_has_it(group: Group) -> None:
    """When a call with ``replicas=1`` is acknowledged, the replica has the record: asked there, at once."""
    async with witnesses(group, 1) as (node,):
        for number in range(20):
            key = f"there-{number}"
            applied = await node.events.fire(key, number, replicas=1)
            assert applied.first
            assert await group.replica.command("HEXISTS", _RECORDS, key) == 1


async def test_not_replicated_carries_the_outcome(group: Group) -> None:
    """Where the replica is silent, the error says so, and what the call did; a second one is no better off."""
    async with witnesses(group, 1) as (node,):
        await node.events.fire("before", replicas=1)
        await group.replica.hang()
        error = await _not_replicated(node.events.fire("silent", 7, replicas=1, within=0.2))
        assert isinstance(error.applied, Applied)
        assert error.applied.first
        assert error.applied.record is not None
        assert error.applied.record.value == 7
        assert "0 of 1 replicas" in str(error)
        # It changes nothing, and must not be taken for replicated because its connection has nothing to wait for.
        again = await _not_replicated(node.events.fire("silent", 8, replicas=1, within=0.2))
        assert again.applied == Applied(error.applied.record, first=False)
        await group.replica.resume()
        assert not (await node.events.fire("silent", 9, replicas=1)).first


async def test_a_call_repeated_on_the_next_link_still_waits(group: Group) -> None:
    """Where the link is lost before WAIT's answer, the call is repeated once, and waits for the replica again."""
    async with witnesses(group, 1) as (node,):
        await node.events.fire("warm", replicas=1)
        await group.replica.hang()
        calling: Any = node.events.fire("twice", replicas=1, within=8.0)
        seen = Seen(calling)
        blocked: list[str] = []

        async def held_up() -> bool:
            blocked[:] = await _waiting_clients(group.primary)
            return bool(blocked)

        await eventually(held_up, "WAIT holds up a connection")
        (first,) = blocked
        await group.primary.command("CLIENT", "KILL", "ID", first)
        await until(lambda: LinkState.SUSPENDED in [state for _, state, _ in node.states], "the link is lost")
        await eventually(held_up, "it is repeated, and waits again")
        assert blocked != [first]
        assert seen.count == 0
        await group.replica.resume()
        await until(lambda: seen.count, "it is acknowledged")
        (applied,) = seen.values
        assert applied.first
        assert applied.record.revision == (await node.events.record("twice")).revision  # type: ignore[union-attr]


async def test_a_refused_wait_is_no_refused_call(group: Group) -> None:
    """Where the server forbids WAIT, the call was applied, and the error says that and why."""
    await group.heal()
    rule = ("on", ">secret", "~*", "&*", "+@all", "-wait")
    await group.primary.command("ACL", "SETUSER", "nowait", *rule)
    url = group.url.replace("://", "://nowait:secret@")
    try:
        async with witnesses(group, 1, url=url) as (node,):
            error = await _not_replicated(node.events.fire("forbidden", replicas=1))
            assert "wait" in str(error)
            assert isinstance(error.applied, Applied)
            assert error.applied.first
    finally:
        await group.primary.command("ACL", "DELUSER", "nowait")


async def test_more_replicas_than_there_are(group: Group) -> None:
    """Two replicas where there is one: `NotReplicated`, and it says how many have it."""
    async with witnesses(group, 1) as (node,):
        error = await _not_replicated(node.events.pulse("two", replicas=2, within=2.0))
        assert "1 of 2 replicas" in str(error)
        assert failure_of(node.events.pulse("one", replicas=1)) is None
        await node.events.pulse("one", replicas=1)


async def test_on_the_shell(group: Group) -> None:
    """``coord fire --replicas 1``: done once the replica has it, else 75 with the doubt in words."""
    await group.heal()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    shell = Shell({**clean, "COORD_URL": group.url})
    try:
        assert shell.run("fire", "m", "shell", "--replicas", "1") == (0, "first\n", "")
        await group.replica.hang()
        ended = shell.run("fire", "m", "doubt", "--replicas", "1", "--within", "0.2")
        assert ended.status == 75
        assert "doubt: applied, but 0 of 1 replicas have it" in ended.err
        assert shell.run("fire", "m", "shell", "--within", "1").status == 2
        assert shell.run("fire", "m", "shell", "--replicas", "-1").status == 2
    finally:
        await group.replica.resume()
        shell.end()


async def test_a_silent_replica_holds_up_no_other_call(group: Group) -> None:
    """Behind a call that waits for it, others on the same map are answered; then it comes back, and that one is."""
    async with witnesses(group, 1) as (node,):
        await node.events.fire("warm", replicas=1)
        await group.replica.hang()
        slow = Seen(node.events.fire("slow", replicas=1, within=12))
        short = Seen(node.events.fire("short", replicas=1, within=0.5))
        for number in range(50):
            assert (await node.events.fire(f"ordinary-{number}").addTimeout(1, reactor)).first
        assert await node.events.wait("slow", timeout=1) is True
        await until(lambda: short.count, "the short one is told", patience=2)
        assert slow.count == 0
        await group.replica.resume()
        await until(lambda: slow.count, "the slow one is acknowledged")
        assert [applied.first for applied in slow.values] == [True]


async def test_f4_a_call_that_waits_for_a_replica_holds_up_no_other(pair: Pair) -> None:
    """Beside ``within=12`` on the same map, an ordinary call is answered at once, and so is one with less patience."""
    await pair.heal()
    async with linked(pair.url) as (node,):
        patient: Any = node.events.fire("patient", replicas=1, within=12.0)
        seen = Seen(patient)
        start = monotonic()
        assert (await node.events.fire("ordinary", timeout=3.0)).first
        assert (await node.node.events("another").fire("ordinary", timeout=3.0)).first
        assert monotonic() - start < 2.0
        error = await _not_replicated(node.events.fire("hasty", replicas=1, within=0.3))
        assert isinstance(error.applied, Applied)
        assert monotonic() - start < 3.0
        assert seen.count == 0
        await pair.follow(pair.two, pair.one)
        await until(lambda: seen.count, "a replica came in time")
        assert seen.errors == []
        assert seen.values[0].first
