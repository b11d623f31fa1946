"""Which sentinel is believed, and what is said where none can be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from twisted.internet.defer import DeferredList

import coord
from coord import AccessDenied, Coordinator, LinkState, ServerRefused, Unreachable
from coord.link import link, sentinel
from failover.fakes import FakeSentinel, Primary, loopback
from failover.processes import HOST, free_port
from memory import MemoryServer
from support.cluster import Seen
from support.waiting import until


def _url(fakes: list[FakeSentinel], service: str = "main", query: str = "") -> str:
    return f"redis+sentinel://{','.join(f'{HOST}:{fake.port}' for fake in fakes)}/{service}{query}"


@asynccontextmanager
async def _node(url: str, **options: Any) -> AsyncIterator[Coordinator]:
    node = coord.connect(url, node="n", **options)
    try:
        yield node
    finally:
        await node.close()


def _has(server: Primary, node: str = "n") -> bool:
    """Whether a node has its connections there."""
    memory: MemoryServer = server.memory
    return len(memory.connections) == 2


async def test_an_unknown_service_is_an_error_at_once() -> None:
    """Waiters, callers and `connected` are told, naming the service, and nobody waits for a deadline."""
    async with loopback() as (fakes, _), _node(_url(fakes, "nosuch")) as node:
        events = node.events("m")
        seen = Seen(node.connected(), events["a"], events.fire("b"))
        await until(lambda: seen.count == 3, "all three are told")
        assert {type(error) for error in seen.errors} == {ServerRefused}
        assert all("nosuch" in str(error) for error in seen.errors)
        assert "nosuch" in node.reason


async def test_a_service_that_appears_later_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the error it goes on trying: a service that the sentinels learn of is found."""
    monkeypatch.setattr(link, "_DENIED_RETRY", 0.2)
    async with loopback() as (fakes, servers), _node(_url(fakes, "late")) as node:
        with pytest.raises(ServerRefused):
            await node.connected()
        for fake in fakes:
            fake.service = "late"
        await node.connected(timeout=10)
        assert _has(servers[0])


async def test_no_sentinel_reachable() -> None:
    """A call ends with `Unreachable` at its deadline; the reason names what was tried."""
    ports = [free_port() for _ in range(3)]
    url = f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in ports)}/main"
    async with _node(url, timeout=0.5) as node:
        begun = monotonic()
        with pytest.raises(Unreachable) as raised:
            await node.events("m").fire("a")
        assert 0.4 < monotonic() - begun < 5
        assert "no sentinel answers" in node.reason
        assert "refused" in node.reason
        assert "no sentinel answers" in str(raised.value)


async def test_one_sentinel_is_enough() -> None:
    """Two of three are silent or gone: the third is believed, after a second's patience with the silent one."""
    async with loopback() as (fakes, servers):
        fakes[0].silent = True
        url = _url(fakes).replace(str(fakes[1].port), str(free_port()))
        async with _node(url) as node:
            await node.connected(timeout=5)
            assert _has(servers[0])


async def test_a_silent_minority_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most have answered, one whose host is gone (with the primary, often) costs a tenth of a second."""
    monkeypatch.setattr(sentinel, "TIMEOUT", 10.0)
    async with loopback() as (fakes, servers):
        fakes[0].silent = True
        begun = monotonic()
        async with _node(_url(fakes)) as node:
            await node.connected(timeout=5)
            assert monotonic() - begun > 0.1
            assert _has(servers[0])


async def test_one_that_lags_behind_is_outvoted() -> None:
    """Of different answers the one with the highest configuration epoch counts, even if it is a minority's."""
    async with loopback() as (fakes, servers):
        fakes[1].switch(servers[1].port)
        async with _node(_url(fakes)) as node:
            await node.connected(timeout=5)
            assert _has(servers[1])
            assert not servers[0].memory.connections


async def test_one_that_lags_behind_is_not_believed_alone() -> None:
    """Who has seen a newer answer does not go back for one sentinel of three; for two of them it does."""
    async with loopback() as (fakes, servers):
        for fake in fakes[:2]:
            fake.switch(servers[1].port)
        async with _node(_url(fakes)) as node:
            await node.connected(timeout=5)
            assert _has(servers[1])
            for fake in fakes[:2]:
                fake.silent = True
            servers[1].memory.drop_connections()
            await until(lambda: "lag behind" in node.reason, "the laggard is recognised")
            assert node.link is LinkState.SUSPENDED
            assert not servers[0].memory.connections
            # Sentinels that were set up afresh have forgotten their epochs.
            fakes[1].silent = False
            fakes[1].epoch, fakes[1].primary = 0, servers[0].port
            await until(lambda: node.link is LinkState.CONNECTED, "a majority is believed")
            assert _has(servers[0])


async def test_the_end_of_a_failover_is_no_way_back() -> None:
    """While one ends, its leader names the old address in MASTER beside the new epoch; nobody goes there."""
    async with loopback() as (fakes, servers):
        fakes[0].switch(servers[1].port)
        fakes[0].ending = servers[0].port
        async with _node(_url(fakes)) as node:
            await node.connected(timeout=5)
            assert _has(servers[1])


async def test_news_from_any_of_them_moves_the_node() -> None:
    """One sentinel's word is enough to leave the old primary, which still accepts, at once and in one step."""
    async with loopback() as (fakes, servers), _node(_url(fakes)) as node:
        await node.connected(timeout=5)
        await until(lambda: all(fake.subscribers == 1 for fake in fakes), "it listens to all")
        states: list[LinkState] = []
        node.on_link(lambda state, _: states.append(state))
        waiting = Seen(node.events("m")["later"])
        await node.events("m").armed()
        for fake in reversed(fakes):
            fake.switch(servers[1].port)
        await until(lambda: _has(servers[1]) and node.link is LinkState.CONNECTED, "it has moved")
        assert states == [LinkState.SUSPENDED, LinkState.CONNECTED]
        await node.events("m").fire("later", 1)
        assert waiting.values == [1]


async def test_news_of_others_and_nonsense_is_ignored() -> None:
    """Another service's switch, one to where we are, and what is no news at all disturb nobody."""
    async with loopback() as (fakes, servers), _node(_url(fakes)) as node:
        await node.connected(timeout=5)
        await until(lambda: all(fake.subscribers == 1 for fake in fakes), "it listens to all")
        states: list[LinkState] = []
        node.on_link(lambda state, _: states.append(state))
        port = servers[1].port
        for payload in (f"other {HOST} 1 {HOST} {port}", f"main {HOST} 1 {HOST} {servers[0].port}", "", "main", "\xff"):
            fakes[0].tell(payload)
        await node.events("m").fire("still here")
        assert states == []
        assert fakes[0].subscribers == 1


async def test_lost_news_is_found_out_by_the_heartbeat() -> None:
    """A switch that nobody told of is noticed at the next beat."""
    async with loopback() as (fakes, servers), _node(_url(fakes), heartbeat=0.2) as node:
        await node.connected(timeout=5)
        for fake in fakes:
            fake.switch(servers[1].port, told=False)
        await until(lambda: _has(servers[1]) and node.link is LinkState.CONNECTED, "it has moved", patience=3)
        assert not servers[0].memory.connections


async def test_news_ends_the_pause_before_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that has backed off for long tries the new primary as soon as it is told of it."""
    monkeypatch.setattr(link, "backoff", lambda: lambda _: 60.0)
    async with loopback() as (fakes, servers), _node(_url(fakes)) as node:
        await node.connected(timeout=5)
        await until(lambda: all(fake.subscribers == 1 for fake in fakes), "it listens to all")
        servers[0].memory.stop()
        await until(lambda: node.link is LinkState.SUSPENDED, "it waits for its next attempt")
        for fake in fakes:
            fake.switch(servers[1].port)
        await until(lambda: node.link is LinkState.CONNECTED, "it is linked")


async def test_news_ends_an_attempt_that_hangs() -> None:
    """An attempt at a stopped primary, which the kernel accepts for, ends when there is another."""
    async with loopback() as (fakes, servers), _node(_url(fakes)) as node:
        await node.connected(timeout=5)
        await until(lambda: all(fake.subscribers == 1 for fake in fakes), "it listens to all")
        servers[0].memory.hang()
        for connection in servers[0].memory.connections:
            connection.transport.abortConnection()
        await until(lambda: node.link is LinkState.SUSPENDED, "the link is lost")
        attempts = node.statistics().connection_attempts
        await until(lambda: node.statistics().connection_attempts > attempts, "an attempt hangs")
        for fake in fakes:
            fake.switch(servers[1].port)
        # Its own end would come ten seconds after its begin.
        await until(lambda: node.link is LinkState.CONNECTED, "it is linked", patience=5)
        servers[0].memory.resume()


async def test_sentinels_with_a_password() -> None:
    """Their own password is in the URL, apart from the primary's; a wrong one is `AccessDenied`."""
    async with loopback() as (fakes, _):
        for fake in fakes:
            fake.password = "sesame"
        async with _node(_url(fakes, query="?sentinel_password=sesame")) as node:
            await node.connected(timeout=5)
            await until(lambda: all(fake.subscribers == 1 for fake in fakes), "it listens to all")
        for query in ("", "?sentinel_password=barley"):
            async with _node(_url(fakes, query=query)) as node:
                with pytest.raises(AccessDenied) as raised:
                    await node.connected(timeout=5)
                assert "barley" not in str(raised.value)


async def test_what_is_no_sentinel_is_not_believed() -> None:
    """Answers of other shapes make one sentinel useless, and the node does with the others."""
    async with loopback() as (fakes, servers):
        for garbage in (1, "OK", [], [b"x"], [1, 2], [b"config-epoch", b"no number"]):
            fakes[0].garbage = garbage
            async with _node(_url(fakes)) as node:
                await node.connected(timeout=5)
                assert _has(servers[0])
            await until(lambda: not servers[0].memory.connections)
        for fake in fakes:
            fake.garbage = "OK"
        async with _node(_url(fakes)) as node:
            await until(lambda: "does not answer as a sentinel" in node.reason)


async def test_closing_while_sentinels_are_asked_leaves_nothing() -> None:
    """A node closed at any moment of its search leaves no connection behind."""
    async with loopback() as (fakes, _):
        fakes[0].silent = True
        nodes = [coord.connect(_url(fakes), node=f"n{number}") for number in range(5)]
        await until(lambda: len(fakes[0].callers) >= 10, "they ask, and listen")
        await DeferredList([node.close() for node in nodes])
        for fake in fakes:
            await fake.alone()
