"""What `coord doctor` says of a cluster: the rules as functions, and on real servers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from cluster.client import connected
from cluster.in_memory import MemoryServers
from cluster.moving import Step, slot_of
from cluster.nodes import nodes_of
from cluster.real import RealCluster
from coord import errors
from coord.clock import steady
from coord.doctor import exam
from coord.doctor.cluster import ClusterFacts, Member, judge_cluster, members_of
from coord.doctor.cluster_exam import Askers, cluster_facts_of, examine_shards
from coord.doctor.rules import Facts, Finding, Level
from coord.link.urls import parse_target

IDS = [f"{number:040x}" for number in range(6)]
INFO = {"redis_version": "7.2.4", "valkey_version": "9.1.2", "connected_slaves": "1"}
SETTINGS = {
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "appendfsync": "always",
    "client-output-buffer-limit": "normal 0 0 0 slave 256 64 60 pubsub 33554432 8388608 60",
    "timeout": "0",
    "cluster-require-full-coverage": "no",
    "cluster-node-timeout": "5000",
}


def lines(*, primaries: int = 3, replicas: int = 3, flags: str = "") -> list[str]:
    """Return CLUSTER NODES of servers whose first one has these flags, too."""
    found = []
    for number in range(primaries):
        slots = f"{16384 * number // primaries}-{16384 * (number + 1) // primaries - 1}"
        role = "master" + (f",{flags}" if flags and not number else "")
        found.append(f"{IDS[number]} 10.0.0.{number}:6379@16379 {role} - 0 0 1 connected {slots}")
    for number in range(replicas):
        found.append(f"{IDS[3 + number]} 10.0.1.{number}:6379@16379 slave {IDS[number]} 0 0 1 connected")
    return found


def facts(
    nodes: list[str] | None = None, *, info: dict[str, str] | None = None, more: dict[str, str] | None = None
) -> ClusterFacts:
    """Return the facts of a cluster in which all is well but for what is given; ``info``, ``more`` of one primary."""
    members = members_of("\n".join(lines() if nodes is None else nodes))
    own = {"10.0.0.0:6379": Facts(INFO | (info or {}), SETTINGS | (more or {}), 0)}
    primaries = [each.address for each in members if "master" in each.flags]
    each = {address: own.get(address, Facts(INFO, SETTINGS, 0)) for address in primaries}
    return ClusterFacts(members, {each.address: each.id for each in members}, each, {})


def warned(given: ClusterFacts) -> dict[str, Finding]:
    """Return what is not well, by the name of the check."""
    return {each.check: each for each in judge_cluster(given) if each.level is not Level.OK}


def test_all_is_well() -> None:
    """A cluster as it should be has nothing to warn about, and each check is said once."""
    found = judge_cluster(facts())
    assert {each.level for each in found} == {Level.OK}
    assert len({each.check for each in found}) == len(found)


@pytest.mark.parametrize(
    ("given", "check", "text", "fix"),
    [
        (facts(lines()[1:]), "slots", "5461 of 16384 slots have no server", "redis-cli --cluster fix"),
        (facts(lines(flags="fail")), "slots", "5461 of 16384 slots", "start the servers"),
        (facts(lines(flags="fail")), "servers", "10.0.0.0:6379", "start them again"),
        (facts(lines(replicas=2)), "shards' replicas", "none of 10.0.0.2:6379", "add-node"),
        (facts(more={"cluster-require-full-coverage": "yes"}), "coverage", "stops the maps of all", "coverage no"),
        (facts(more={"cluster-node-timeout": "15000"}), "failover", "for 15 s or more", "cluster-node-timeout 5000"),
        (facts(info={"valkey_version": "", "redis_version": "6.2.6"}), "messages", "each change costs", "Redis 7"),
        (facts(more={"appendonly": "no", "save": ""}), "persistence", "10.0.0.0:6379: nothing is saved", "appendonly"),
        (facts(more={"maxmemory-policy": "allkeys-lru"}), "eviction", "10.0.0.0:6379: ", "noeviction"),
        (facts(info={"valkey_version": "8.0.1"}), "versions", "Valkey 8.0.1, Valkey 9.1.2", None),
    ],
)
def test_what_could_stop_maps(given: ClusterFacts, check: str, text: str, fix: str | None) -> None:
    """Each bad state or setting is found, with the server that has it and the setting to change."""
    found = warned(given)[check]
    assert text in found.text
    assert found.fix is None if fix is None else fix in str(found.fix)


def test_a_server_that_is_not_where_it_is_announced() -> None:
    """One that does not answer there, and one that is another: behind NAT both happen."""
    given = facts()
    given = ClusterFacts(
        given.members, {**given.found, "10.0.0.1:6379": "refused", "10.0.1.0:6379": IDS[0]}, given.facts, {}
    )
    found = warned(given)["addresses"]
    assert "10.0.0.1:6379 (refused)" in found.text
    assert "10.0.1.0:6379 (another server answers there)" in found.text
    assert "remap=" in str(found.fix)


def test_settings_that_are_not_reported() -> None:
    """They are unknown, and no warning."""
    members = members_of("\n".join(lines()))
    found = warned(ClusterFacts(members, {}, {"10.0.0.0:6379": Facts(INFO, {}, 0)}, {}))
    assert {found[check].level for check in ("coverage", "failover", "persistence")} == {Level.UNKNOWN}


def test_what_nodes_say() -> None:
    """Names are preferred to addresses; open slots are told from ranges; half a line is left out."""
    text = f"{IDS[0]} 10.0.0.1:1@2,db1,shard-id=x myself,master - 0 0 1 connected 0-9 12 [7->-{IDS[1]}] [8-<-{IDS[1]}]"
    own = Member(IDS[0], "db1:1", frozenset({"myself", "master"}), None, 11, {7: IDS[1], 8: IDS[1]})
    other = Member(IDS[1], "10.0.0.2:1", frozenset({"slave"}), IDS[0], 0, {})
    line = f"{IDS[1]} 10.0.0.2:1@2,,tls-port=0 slave {IDS[0]} 0 0 1 connected"
    assert members_of(f"{text}\n{line}\nhalf a line\n") == [own, other]


async def test_a_server_that_is_gone_does_not_end_the_exam() -> None:
    """The others are examined, and name it: that is when a user asks the doctor."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", "there", heartbeat=0.2) as nodes:
        here, there = nodes
        gone = await servers.stop_one()
        clock = steady(reactor)
        ask_at = Askers(parse_target(servers.url), clock)

        def ask(*words: str) -> Any:
            return ask_at.any_of(here, *words)

        with patch.object(exam, "_PATIENCE", 0.5):
            exams, found = await examine_shards(here, there, ask, clock=clock)
        assert len(exams) == 1
        (trial,) = [each for each in found if each.level is Level.WARNING]
        assert f"127.0.0.1:{gone}: Connection was refused" in trial.text
        assert f"127.0.0.1:{gone}" in warned(await cluster_facts_of(ask, ask_at))["addresses"].text


async def test_on_real_servers(real: RealCluster) -> None:
    """A healthy cluster has no warnings but for what the fixture's settings deserve; a slot on the move is found."""
    await real.heal()
    asked = real.nodes[0]

    async def ask_at(address: str, *words: str) -> Any:
        client = await connected(next(n for n in real.nodes if address == f"127.0.0.1:{n.port}").endpoint())
        try:
            reply = await client.ask(*words)
        finally:
            await client.close()
        if isinstance(reply, str):
            raise errors.ServerRefused(reply)
        return reply

    def ask(*words: str) -> Any:
        return ask_at(f"127.0.0.1:{asked.port}", *words)

    well = judge_cluster(await cluster_facts_of(ask, ask_at))
    assert [each for each in well if each.level is Level.WARNING] == []
    assert ("moving slots" in {each.check for each in well}) is (real.kind == "valkey")
    move = await real.move(slot_of("m"), pause_at=Step.MIGRATING)
    found = warned(await cluster_facts_of(ask, ask_at))["moves"]
    assert str(slot_of("m")) in found.text
    await move.call_off()


async def test_as_a_command(real: RealCluster) -> None:
    """`coord doctor` examines a map at each primary, and says of the whole what it is."""
    await real.heal()
    program = Path(sys.executable).with_name("coord")
    environment = {**os.environ, "COORD_URL": real.url}
    out, _, status = await getProcessOutputAndValue(str(program), ["doctor"], environment)
    lines = out.decode().splitlines()
    assert status == 0, out.decode()
    assert lines[0].endswith(", cluster of 3 primaries, 3 replicas")
    assert "ok       slots: all 16384 have one of 3 primaries" in lines
    assert sum(line.startswith("ok       permissions: ") for line in lines) == 1
    assert lines[-1] == "no warnings"
    for node in await real.primaries():
        assert await node.command("DBSIZE") == 0
