"""What the page on security says of those who may talk to the same server."""

from __future__ import annotations

import pytest

from coord import CorruptRecord
from security.rules import rule
from support.cluster import Cluster, failure_of
from support.servers import Refused

pytestmark = [pytest.mark.servers("redis", "valkey"), pytest.mark.unrestricted]


async def test_names_show_where_key_patterns_are_not_looked_at(cluster: Cluster) -> None:
    """A user without a single key of coord's sees names of maps, keys that are waited for, and nodes; but no value."""
    await cluster.server.command("ACL", "SETUSER", "near", "reset", "on", ">x", "~other:*", "&other:*", "+@all")
    events = await cluster.map("node1")
    waiting = events["waited-for"]
    await events.armed()
    await events.fire("fired", "a value")
    login = ("AUTH", "near", "x")
    names = (await cluster.server.commands(login, ("SCAN", "0", "COUNT", "1000")))[-1][1]
    assert b"coord:{default/m}" in names
    channels = (await cluster.server.commands(login, ("PUBSUB", "CHANNELS")))[-1]
    assert b"coord:0:{default/m}:waited-for" in channels
    assert b"name=coord:node1" in (await cluster.server.commands(login, ("CLIENT", "LIST")))[-1]
    for words in (("HGETALL", "coord:{default/m}"), ("PUBLISH", "coord:0:{default/m}:waited-for", "x")):
        with pytest.raises(Refused):
            await cluster.server.commands(login, words)
    await events.fire("waited-for")
    assert await waiting is True


async def test_another_database_is_heard_and_not_believed(cluster: Cluster) -> None:
    """Pub/sub knows no databases, but a channel's name has the number: another's fire wakes nobody here."""
    here, there = await cluster.map("here"), await cluster.map("there", database=3)
    waiting = here["k"]
    await here.armed()
    await there.fire("k", "there")
    assert await here.record("k") is None
    assert not waiting.called
    await here.fire("k", "here")
    assert await waiting == "here"


async def test_what_a_caller_writes_into_a_map_hurts_its_own_key(cluster: Cluster) -> None:
    """Under a node's rule somebody may write what is no record; the other keys go on, and a reset repairs it."""
    await cluster.server.command("ACL", "SETUSER", "caller", *rule("default", "x"))
    events = await cluster.map()
    await events.fire("good")
    write = ("EVAL", "return redis.call('HSET', KEYS[1], 'bad', 'no record')", "1", "coord:{default/m}")
    await cluster.server.commands(("AUTH", "caller", "x"), write)
    assert await events["good"] is True
    bad = events.record("bad")
    listing = await events.records()
    assert isinstance(failure_of(bad), CorruptRecord)
    assert ([record.key for record in listing.records], list(listing.corrupt)) == (["good"], ["bad"])
    await events.reset("bad")
    assert (await events.records()).corrupt == ()
