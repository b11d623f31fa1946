"""A node of a cluster as a whole: what it says of its links and maps, and what it keeps of those it no longer uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from twisted.internet.defer import gatherResults

from cluster.in_memory import MemoryServers
from cluster.nodes import nodes_of
from coord import MEMBERS, AccessDenied, Closed, InvalidInput, LinkState, Unacknowledged
from coord.cli._acks import Wanted, _why
from coord.core.slots import SLOTS, Address, slot_of, tag_of
from coord.link import topology
from coord.link.replication import fields_of
from coord.link.scripts import HISTORY
from coord.session import cluster
from memory.shards import ShardServer
from memory.slots import Run
from support.waiting import eventually, until

_NAMES = [f"m{number}" for number in range(8)]


async def _used(node: Any) -> list[Any]:
    maps = [node.events(name) for name in _NAMES]
    assert all(applied.first for applied in await gatherResults([each.fire("k", 1) for each in maps]))
    return maps


async def test_a_node_has_a_link_to_each_server_that_it_needs() -> None:
    """Eight maps are on two servers; the node says how many are where, and lists the maps of both."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here") as (node,):
        maps = await _used(node)
        links = node.links
        assert [(each.state, each.reason) for each in links] == 2 * [(LinkState.CONNECTED, "connected")]
        assert sum(each.maps for each in links) == len(maps)
        assert all(each.maps for each in links)
        now = node.statistics()
        assert (now.shards, now.moves, now.guests, now.calls_answered) == (2, 8, 0, 8)
        assert await node.maps() == tuple(_NAMES)


async def test_the_maps_are_asked_of_the_server_that_takes_over_meanwhile() -> None:
    """The server that was asked is gone for good: its replica, which has its slots now, is asked instead."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", heartbeat=0.2) as (node,):
        await _used(node)
        gone = await servers.stop_one()
        asking = node.maps()
        servers.cluster.fail_over(servers.cluster.at(gone))
        assert await asking == tuple(_NAMES)


async def test_who_may_not_log_in_at_a_server_is_told_that_by_maps() -> None:
    """One server of the cluster has another password: what belongs to no map ends with that, as one server's does."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", heartbeat=0.2) as (node,):
        other = servers.cluster.servers[0]
        other.set_password("another")
        with pytest.raises(AccessDenied, match=rf"127\.0\.0\.1:{other.port}: .*NOAUTH.* required\.$"):
            await node.maps()


async def test_w6_a_map_that_is_named_after_the_close_is_closed_as_the_others_are() -> None:
    """W6: all that is asked of it says what has happened, and nothing is kept of it."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here") as (node,):
        await node.events("m0").fire("k")
        await node.close()
        for name in _NAMES[:2]:
            events = node.events(name)
            asked: list[Any] = [events.fire("k"), events["k"], events.record("k"), events.hold("k")]
            for each in [*asked, node.execute("PING", at=name)]:
                with pytest.raises(Closed, match=r"^the coordinator was closed$"):
                    await each
        sessions: Any = node._sessions
        assert not sessions.shards.links


async def test_w6_a_list_of_maps_does_not_outlive_its_node_though_a_server_has_no_time() -> None:
    """W6: the pause until the server is asked again ends at the close, and leaves no timer."""
    servers = MemoryServers("redis")
    with patch.object(cluster, "_PAUSE", 600.0):
        async with nodes_of(servers, "here") as (node,):
            await node.maps()
            for each in servers.cluster.servers:
                each.trouble = "busy"
            sessions: Any = node._sessions
            waiting = len(sessions._linked)
            asking = node.maps()
            await until(lambda: len(sessions._linked) > waiting, "the question waits")
            await node.close()
            with pytest.raises(Closed):
                await asking


async def test_a_raw_command_names_the_map_whose_server_is_meant() -> None:
    """A cluster has several servers, so without a map the command is refused before it is sent."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here") as (node,):
        with pytest.raises(InvalidInput, match="at=MAP"):
            node.execute("PING")
        said = [await node.execute("INFO", "server", at=name) for name in _NAMES]
        assert len({fields_of(each)[b"run_id"] for each in said}) == 2


async def test_the_node_is_linked_while_every_map_is() -> None:
    """A server that is gone suspends the maps that are there, and the reason says how many; the others go on."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", heartbeat=0.2) as (node,):
        maps = await _used(node)
        heard: list[tuple[LinkState, str]] = []
        node.on_link(lambda state, reason: heard.append((state, reason)))
        gone = next(each for each in node.links)
        there = [each for each in maps if str(each._session.link.shard.address) == gone.address]
        for each in there:
            each._session.link.leave("tried")
        assert node.link is LinkState.SUSPENDED
        assert heard[0] == (LinkState.SUSPENDED, f"1 of {len(maps)} maps: tried")
        assert node.reason == f"{len(there)} of {len(maps)} maps: tried"
        other = next(each for each in maps if each not in there)
        assert (await other.fire("l")).first
        for each in there:
            each._session.link.place()
        await until(lambda: node.link is LinkState.CONNECTED, "all maps are back")
        assert len(heard) == 2, "once for all maps"


class _Looked(dict[str, Any]):
    """Counts how often everything in it is looked at."""

    times = 0

    def values(self) -> Any:
        """Return everything."""
        self.times += 1
        return super().values()


async def test_what_becomes_of_one_map_is_judged_without_a_look_at_all_others() -> None:
    """Of 4,000 maps that a node began to use, each looked at all others as it came: the reactor stood for seconds."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here", heartbeat=5.0) as (node,):
        sessions: Any = node._sessions
        looked = sessions._sessions = _Looked(sessions._sessions)
        maps = await _used(node)
        maps[0]._session.link.abandon("tried")
        assert node.link is LinkState.SUSPENDED
        await until(lambda: node.link is LinkState.CONNECTED, "the map is back")
        assert looked.times == 0


async def test_a_map_that_moves_is_no_reason_to_ask_for_less() -> None:
    """A listing and a watch lose a dozen questions to moves: no answer was too large, and they come to their end."""
    servers = MemoryServers("redis")
    async with nodes_of(servers, "here") as (node,):
        events = node.events("m")
        keys = [f"k{number}" for number in range(100)]
        await gatherResults([events.fire(key) for key in keys])
        link: Any = events._session.link
        asked: list[tuple[bytes, ...]] = []

        def lost(question: Callable[..., Any], *args: Any, **options: Any) -> Any:
            answer = question(*args, **options)
            if args[0] in (b"HSCAN", HISTORY):
                # How much it asks for is said last.
                asked.append((args if args[0] == b"HSCAN" else args[-1])[-2:])
                if len(asked) <= 12:
                    link.leave("tried")
                    link.place()
            return answer

        with (
            patch.object(link, "ask", partial(lost, link.ask)),
            patch.object(link, "run_script", partial(lost, link.run_script)),
        ):
            listing = await events.records()
            assert sorted(record.key for record in listing.records) == sorted(keys)
            assert asked[:13] == 13 * asked[:1]
            asked.clear()
            async with events.watch(since="start") as changes:
                first: Any = await anext(changes)
                assert first.key == "k0"
            assert asked == 13 * asked[:1]


async def test_w5_maps_that_are_not_used_leave_nothing_behind() -> None:
    """W5: their sessions end, with the subscriptions of the live cache; a map in use keeps its own."""
    servers = MemoryServers("redis")
    with patch.object(cluster, "_UNUSED", 0.1):
        async with nodes_of(servers, "here") as (node,):
            maps = await _used(node)
            waiting = maps[0]["later"]
            await maps[0].armed()
            kept = maps[0]
            maps.clear()
            await until(lambda: len(node._sessions.every) == 1, "one session is left")
            assert sum(each.maps for each in node.links) == 1
            assert (await kept.fire("later", 2)).first
            assert await waiting == 2

            async def again() -> bool:
                record = await node.events("m7").record("k")
                return record is not None and record.latched

            await eventually(again, "a map is used again")


@contextmanager
def _asking() -> Iterator[Callable[[Any, ShardServer], Awaitable[None]]]:
    """Give what has a node ask one server who serves which slot."""
    ports = [0]

    def asked_first(nodes: list[Address]) -> None:
        nodes.sort(key=lambda each: each.port != ports[0])

    async def ask(node: Any, server: ShardServer) -> None:
        shards = node._sessions.shards
        ports[0], known = server.port, shards.atlas.nodes
        shards.refresh()
        await until(lambda: shards.atlas.nodes is not known, "the server has said who serves")

    with patch.object(topology, "_INTERVAL", 0.02), patch.object(topology, "shuffle", asked_first):
        yield ask


async def test_a_map_stays_where_it_is_served_while_a_server_lags_behind() -> None:
    """After a failover, a server that has not heard of it names the old primary: no map follows that word back."""
    servers = MemoryServers("redis")
    with _asking() as ask:
        async with nodes_of(servers, "here", heartbeat=5.0) as (node,):
            maps = await _used(node)
            old, behind, *_ = servers.cluster.servers
            servers.cluster.bus_delay = None
            new = servers.cluster.fail_over(old)
            await gatherResults([each.fire("l") for each in maps])
            heard: list[tuple[LinkState, str]] = []
            node.on_link(lambda state, reason: heard.append((state, reason)))
            for server in 2 * [new, behind]:
                await ask(node, server)
            assert heard == []
            assert all(applied.first for applied in await gatherResults([each.fire("m") for each in maps]))
            assert heard == []


async def test_a_map_leaves_a_server_that_has_not_heard_that_it_was_replaced() -> None:
    """It would serve the map for ever; another server names the new one, and that serves the map, too."""
    servers = MemoryServers("redis")
    with _asking() as ask:
        async with nodes_of(servers, "here", heartbeat=5.0) as (node,):
            old, _, new, _ = servers.cluster.servers
            name = next(name for name in _NAMES if old.slots.owns(slot_of(tag_of("default", name))))
            events = node.events(name)
            assert (await events.fire("k", 1)).first
            new.restore(old.snapshot())
            new.promote()
            new.slots.primary = None
            new.slots.owners.put(Run(0, SLOTS - 1, servers.cluster.next_epoch(), new.slots.own))
            await ask(node, new)
            there = str(new.slots.own)
            await until(lambda: {each.address for each in node.links if each.maps} == {there}, "the map is there")
            assert not (await events.fire("k", 2)).first
            assert (await events.fire("l", 2)).first


@pytest.mark.parametrize(
    "ask",
    [
        lambda node: node.events("m").records(),
        lambda node: node.events("m").page(),
        lambda node: node.events("m").record("k"),
        lambda node: node.events("m").holders("k"),
        lambda node: node.events("m").subscribers(["k"]),
        lambda node: node.events("m").remove_foreign(),
        lambda node: node.execute("PING", at="m"),
    ],
    ids=["records", "page", "record", "holders", "subscribers", "remove_foreign", "execute"],
)
async def test_what_is_asked_of_a_map_keeps_its_session(ask: Callable[[Any], Any]) -> None:
    """A caller that keeps no reference to the map gets its answer, and not that the coordinator was closed."""
    servers = MemoryServers("redis")
    with patch.object(cluster, "_UNUSED", 0.05):
        async with nodes_of(servers, "here") as (node,):
            events = node.events("m")
            assert (await events.fire("k", 1)).first
            owner = await servers.owner(slot_of(tag_of("default", "m")))
            # A heartbeat does that, too.
            events._session.call_sender.forget()
            owner.memory.hang()
            asked = ask(node)
            del events
            sessions: Any = node._sessions
            with patch.object(sessions, "_tidy", wraps=sessions._tidy) as tidied:
                sessions._timer.cancel()
                sessions._tidy()
                await until(lambda: tidied.call_count > 2, "it was looked for unused maps")
            owner.memory.resume()
            await asked
            await until(lambda: not sessions.every, "no session is left")


async def test_l13_members_that_cannot_be_listed_are_not_said_to_be_none() -> None:
    """L13: their server may be away while that of the map is there; the error says so, and so does the command."""
    servers = MemoryServers("redis")
    space = next(f"n{number}" for number in range(9) if slot_of(tag_of(f"n{number}", MEMBERS)) < SLOTS // 2)
    name = next(each for each in _NAMES if slot_of(tag_of(space, each)) >= SLOTS // 2)
    async with nodes_of(servers, "here", heartbeat=0.2, namespace=space) as (node,):
        gone = await servers.stop_one()
        change: Any = (await node.events(name).fire("k")).record
        with pytest.raises(Unacknowledged, match="it is not known who the members are") as caught:
            await node.events(name).acked(change, MEMBERS, timeout=0.5)
        assert f"127.0.0.1:{gone}: Connection was refused" in str(caught.value)
        said = _why(caught.value, Wanted(MEMBERS, 0.5))
        assert said.startswith("not acknowledged within 0.5 s: it is not known who the members are")
