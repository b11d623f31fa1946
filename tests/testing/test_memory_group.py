"""The server in memory as one of several: roles, replicas that are late, and what it refuses for a while."""

from __future__ import annotations

import pytest

from memory.troubles import TROUBLES
from testing.memory_client import World


def test_a_first_replica_gives_the_data_another_name() -> None:
    """INFO's replication id changes with a first replica and with a freed backlog, and not with a second replica."""
    server = World().server
    names = [server.replid]
    for number in (1, 2, 0):
        server.attach(number)
        names.append(server.replid)
    server.free_backlog()
    names.append(server.replid)
    assert names[1] == names[2] == names[3]
    assert len(set(names)) == 3
    assert server.replid2 == "0" * 40


def test_a_server_is_demoted_and_promoted_in_place() -> None:
    """Its connections stay, a WAIT ends, writes are refused meanwhile, and its data have another name afterwards."""
    world = World()
    client, waiting = world.client(), world.client()
    world.ask(waiting, "SET", "a", 1)
    waiting.replies.clear()
    waiting.send("WAIT", 1, 0)
    world.settle()
    world.server.follow("f" * 40)
    world.settle()
    assert str(waiting.replies[0]).startswith("UNBLOCKED ")
    assert str(world.ask(client, "SET", "a", 2)).startswith("READONLY ")
    assert world.ask(client, "GET", "a") == b"1"
    assert b"role:slave" in world.ask(client, "INFO", "replication")
    world.server.promote()
    assert world.ask(client, "SET", "a", 2) == b"OK"
    assert world.server.replid != world.server.replid2 == "f" * 40


def test_wait_lags_behind_a_write() -> None:
    """WAIT answers when replicas have acknowledged what this client wrote, and 0 where they never do."""
    world = World()
    client = world.client()
    world.server.replicas, world.server.lag = 1, 0.5
    client.send("SET", "a", 1)
    client.send("WAIT", 1, 2000)
    client.send("GET", "a")
    world.settle()
    assert client.replies == [b"OK"]
    world.clock.pump([0.4, 0.2, 0])
    assert client.replies == [b"OK", 1, b"1"]
    world.server.lag = None
    client.send("SET", "a", 2)
    client.send("WAIT", 1, 2000)
    world.clock.pump([0, 1.9])
    assert client.replies[3:] == [b"OK"]
    world.clock.pump([0.2, 0])
    assert client.replies[4:] == [0]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_passes(trouble: str) -> None:
    """What a server refuses in its trouble, it carries out afterwards."""
    world = World()
    client = world.client()
    commands = (("HMGET", "a", "b"), ("SET", "a", 1), ("DEL", "a"), ("SUBSCRIBE", "channel"), ("PING",))
    world.server.trouble = trouble
    refused = [str(world.ask(client, *words)) for words in commands[:3]]
    assert (
        any(isinstance(each, str) and each.split(" ")[0].isupper() for each in refused) or trouble == "no subscribing"
    )
    world.server.trouble = ""
    assert world.ask(client, *commands[0]) == [None]
    assert world.ask(client, *commands[1]) == b"OK"
    assert world.ask(client, *commands[3]) == [b"subscribe", b"channel", 1]


def test_a_client_that_is_owed_too_much_is_closed() -> None:
    """A reply over the limit is not sent: its connection is closed; a smaller one is."""
    world = World()
    client, other = world.client(), world.client()
    world.ask(client, "SET", "a", "x" * 100)
    world.server.reply_limit = 90
    client.replies.clear()
    client.send("GET", "a")
    world.clock.pump([0, 0, 0])
    assert (client.replies, client.lost is not None) == ([], True)
    assert world.ask(other, "GETRANGE", "a", 0, 49) == b"x" * 50
